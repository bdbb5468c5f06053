/* Antialiased bicubic (Keys, a = -1/2) to a shorter side of S, the middle S x S, in integers. Section "Preprocessing"
 * of docs/verification-spec.md. Numerators reach 2^97 for the largest images: __int128.
 */
#include "resample.h"

#include "exact.h"

typedef __int128 Wide;

typedef struct {
    int64_t start, count;
    int64_t *taps; /* in units of 2^-bits, sum exactly 2^bits */
} Row;

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

/* 2 d^3 times Keys' kernel at n / d, n >= 0. */
static Wide keys(Wide n, Wide d) {
    if (n < d) return 3 * n * n * n - 5 * n * n * d + 2 * d * d * d;
    if (n < 2 * d) return -n * n * n + 5 * n * n * d - 8 * n * d * d + 4 * d * d * d;
    return 0;
}

/* The integer nearest to a / b, ties to even; b > 0. */
static int64_t divide_even(Wide a, Wide b) {
    Wide whole = a / b - (a % b < 0), rest = a - whole * b;
    if (2 * rest > b || (2 * rest == b && whole & 1)) whole++;
    return (int64_t)whole;
}

/* Output `i` of an axis of n inputs and m outputs. */
static Row make_row(int64_t n, int64_t m, int64_t i, int bits) {
    int64_t unit = 2 * (n > m ? n : m), centre = (2 * i + 1) * n;
    int64_t start = floor_divide(centre - 2 * unit - m, 2 * m) + 1, stop = -floor_divide(m - centre - 2 * unit, 2 * m);
    if (start < 0) start = 0;
    if (stop > n) stop = n;
    Row row = {start, stop - start, allocate((size_t)(stop - start), sizeof(int64_t))};
    Wide sum = 0, *weights = allocate((size_t)row.count, sizeof *weights);
    for (int64_t j = 0; j < row.count; j++) {
        int64_t distance = (2 * (start + j) + 1) * m - centre;
        weights[j] = keys(distance < 0 ? -distance : distance, unit);
        sum += weights[j];
    }
    int64_t missing = (int64_t)1 << bits, largest = 0;
    for (int64_t j = 0; j < row.count; j++) {
        row.taps[j] = divide_even(weights[j] * ((Wide)1 << bits), sum);
        missing -= row.taps[j];
        if (row.taps[j] > row.taps[largest]) largest = j;
    }
    row.taps[largest] += missing;
    free(weights);
    return row;
}

/* The `size` kept outputs of one axis, and the largest sum of |taps|. */
static Row *make_rows(int64_t side, int64_t shorter, int size, int bits, int64_t *spread) {
    int64_t outputs = size * side / shorter, first = (outputs - size) / 2;
    Row *rows = allocate((size_t)size, sizeof *rows);
    *spread = 0;
    for (int i = 0; i < size; i++) {
        int64_t sum = 0;
        rows[i] = make_row(side, outputs, first + i, bits);
        for (int64_t j = 0; j < rows[i].count; j++) sum += llabs(rows[i].taps[j]);
        if (sum > *spread) *spread = sum;
    }
    return rows;
}

static void free_rows(Row *rows, int size) {
    for (int i = 0; i < size; i++) free(rows[i].taps);
    free(rows);
}

/* Whether every partial sum of both passes, in either order, and X stay within 2^53. */
static int is_exact(int64_t down, int64_t across, int bits) {
    Wide one = (Wide)1 << bits, rows_first = (down + one) / 2 * across, columns_first = (across + one) / 2 * down;
    Wide largest = 255 * (rows_first > columns_first ? rows_first : columns_first);
    return largest + 255 * ((Wide)1 << (2 * bits - 1)) <= (Wide)1 << 53;
}

static void sum_up(const Pixels *pixels, const Row *down, const Row *across, int size, int bits, int64_t *input) {
    int64_t width = 3 * (int64_t)pixels->width;
    int64_t *line = allocate((size_t)width, sizeof *line);
    for (int y = 0; y < size; y++) {
        memset(line, 0, (size_t)width * sizeof *line);
        for (int64_t j = 0; j < down[y].count; j++) {
            const uint8_t *levels = pixels->rgb + (down[y].start + j) * width;
            for (int64_t x = 0; x < width; x++) line[x] += down[y].taps[j] * levels[x];
        }
        for (int x = 0; x < size; x++)
            for (int c = 0; c < 3; c++) {
                int64_t sum = 0;
                for (int64_t j = 0; j < across[x].count; j++)
                    sum += across[x].taps[j] * line[3 * (across[x].start + j) + c];
                input[3 * ((int64_t)y * size + x) + c] = sum - 255 * ((int64_t)1 << (2 * bits - 1));
            }
    }
    free(line);
}

int resample(const Pixels *pixels, int size, int bits, int64_t *input) {
    int64_t shorter = pixels->height < pixels->width ? pixels->height : pixels->width, spread_down, spread_across;
    Row *down = make_rows(pixels->height, shorter, size, bits, &spread_down);
    Row *across = make_rows(pixels->width, shorter, size, bits, &spread_across);
    int exact = is_exact(spread_down, spread_across, bits);
    if (exact) sum_up(pixels, down, across, size, bits, input);
    free_rows(down, size);
    free_rows(across, size);
    return exact;
}
