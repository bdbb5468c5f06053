/* How: exp(-1/4096) from its series in units of 2^-124, its powers by multiplication (error below 2^-106 after 65536
 * of them), 1 / (1 + exp(-x)) by long division, then products in units of 2^-104. The units of the tables are 2^-40
 * and 2^-30, so a value lies some 50 bits clear of what the error could change; one that lies closer to a tie than
 * 2^-40 of a unit, and is not exactly one, ends the program.
 */
#include "tables.h"

#include "exact.h"
#include "sha256.h"

typedef unsigned __int128 Wide;

enum { FINE = 124, COARSE = 104 };

/* floor(a * b / 2^shift), for results below 2^128; 64 <= shift < 128. */
static Wide multiply(Wide a, Wide b, int shift) {
    uint64_t a0 = (uint64_t)a, a1 = (uint64_t)(a >> 64), b0 = (uint64_t)b, b1 = (uint64_t)(b >> 64);
    Wide low = (Wide)a0 * b0, high = (Wide)a1 * b1;
    Wide one = (Wide)a1 * b0, two = (Wide)a0 * b1;
    Wide middle = (low >> 64) + (uint64_t)one + (uint64_t)two;
    high += (one >> 64) + (two >> 64) + (middle >> 64);
    low = middle << 64 | (uint64_t)low;
    return high << (128 - shift) | low >> shift;
}

/* exp(-1/4096) in units of 2^-124: the series' terms shrink by more than 2^12 each. */
static Wide exp_of_step(void) {
    Wide sum = (Wide)1 << FINE, term = sum;
    for (unsigned n = 1; term; n++) {
        term = (term >> 12) / n;
        sum = n % 2 ? sum - term : sum + term;
    }
    return sum;
}

/* 1 / (1 + e) in units of 2^-104, for e in units of 2^-124, 0 < e <= 1: one bit a step. */
static Wide logistic(Wide e) {
    Wide divisor = ((Wide)1 << FINE) + e, rest = (Wide)1 << FINE, quotient = 0;
    for (int bit = 0; bit < COARSE; bit++) {
        rest <<= 1;
        quotient <<= 1;
        if (rest >= divisor) {
            rest -= divisor;
            quotient |= 1;
        }
    }
    return quotient;
}

/* value in units of 2^-104 to units of 2^-bits, half to even. */
static int64_t narrow(Wide value, int bits, int negative) {
    int shift = COARSE - bits;
    Wide half = (Wide)1 << (shift - 1), rest = value & (2 * half - 1), gap = rest > half ? rest - half : half - rest;
    int64_t whole = (int64_t)(value >> shift);
    if (gap && gap >> (shift - 40) == 0) die(EXIT_REFUSED_MODEL, "a table's entry lies too close to a tie");
    if (rest > half || (rest == half && whole & 1)) whole++;
    return negative ? -whole : whole;
}

static void set(Entry entry, Wide value, int value_negative, Wide slope, int slope_negative) {
    entry[0] = narrow(value, 40, value_negative);
    entry[1] = narrow(slope, 30, slope_negative);
}

static void set_pair(Entry *silu, Entry *sigmoid, int i, Wide high) {
    const Wide one = (Wide)1 << COARSE;
    Wide low = one - high, x = (Wide)i << (COARSE - 12), x_low = multiply(x, low, COARSE);
    Wide x_high = multiply(x, high, COARSE), bell = multiply(high, low, COARSE);
    int falls = x_high > one; /* below about -1.28 SiLU falls as x grows */
    set(sigmoid[TABLE_HALF + i], high, 0, bell, 0);
    set(sigmoid[TABLE_HALF - i], low, 0, bell, 0);
    set(silu[TABLE_HALF + i], x_high, 0, multiply(high, one + x_low, COARSE), 0);
    set(silu[TABLE_HALF - i], x_low, 1, multiply(low, falls ? x_high - one : one - x_high, COARSE), falls);
}

void build_tables(Entry *silu, Entry *sigmoid) {
    Wide step = exp_of_step(), e = (Wide)1 << FINE;
    for (int i = 0; i <= TABLE_HALF; i++) {
        set_pair(silu, sigmoid, i, logistic(e));
        e = multiply(e, step, FINE);
    }
    silu[0][0] = silu[0][1] = 0; /* beyond the table: 0 below, x above, and flat for the sigmoid */
    silu[TABLE_ENTRIES - 1][0] = (int64_t)16 << 40;
    silu[TABLE_ENTRIES - 1][1] = (int64_t)1 << 30;
    sigmoid[0][1] = sigmoid[TABLE_ENTRIES - 1][1] = 0;
}

void digest_table(const Entry *table, char hex[65]) {
    Sha256 hash;
    sha256_begin(&hash);
    sha256_add(&hash, table, TABLE_ENTRIES * sizeof *table);
    sha256_end(&hash, hex);
}
