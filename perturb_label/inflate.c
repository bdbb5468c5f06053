/* Where a stream is both too long and broken, the definition says which counts: one byte more than expected is decoded,
 * and decoding goes on until the byte after that one would have to be written. A fault met by then is a fault;
 * otherwise the stream is too long. The window a header declares is not enforced: distances reach back 32768 bytes.
 */
#include "inflate.h"

#include <setjmp.h>
#include <string.h>

enum { MAX_BITS = 15, LITERALS = 288, DISTANCES = 32, LENGTH_CODES = 19 };

typedef struct {
    const uint8_t *data;
    size_t length, position;
    uint32_t held; /* bits read from data and not used yet */
    int bits;
    uint8_t *room;
    size_t expected, made; /* made is at most expected + 1 */
    const char *why;
    jmp_buf leave;
} Stream;

typedef struct {
    uint16_t count[MAX_BITS + 1]; /* codes of each length */
    uint16_t symbol[LITERALS];    /* symbols by length, then value */
    int longest;
} Code;

static _Noreturn void leave(Stream *s, Inflated outcome, const char *why) {
    s->why = why;
    longjmp(s->leave, outcome + 1);
}

static _Noreturn void fault(Stream *s, const char *why) { leave(s, INFLATE_FAULT, why); }

static uint32_t take(Stream *s, int bits) {
    while (s->bits < bits) {
        if (s->position == s->length)
            leave(s, s->made > s->expected ? INFLATE_MORE : INFLATE_FAULT, "the stream breaks off");
        s->held |= (uint32_t)s->data[s->position++] << s->bits;
        s->bits += 8;
    }
    uint32_t value = s->held & ((1u << bits) - 1);
    s->held >>= bits;
    s->bits -= bits;
    return value;
}

static void require_room(Stream *s) {
    if (s->made > s->expected) leave(s, INFLATE_MORE, "the stream inflates to more");
}

static void put(Stream *s, uint8_t byte) {
    require_room(s);
    s->room[s->made++] = byte;
}

/* False for lengths that are no prefix code. One code of one bit may stand alone, and for `lone` codes none at all. */
static int build(Code *code, const uint8_t *lengths, int n, int lone) {
    uint16_t next[MAX_BITS + 2] = {0};
    int left = 1;
    memset(code, 0, sizeof *code);
    for (int i = 0; i < n; i++) code->count[lengths[i]]++;
    for (int bits = 1; bits <= MAX_BITS; bits++)
        if (code->count[bits]) code->longest = bits;
    code->count[0] = 0;
    if (!code->longest) return 1; /* any use of it is a fault, found when it is used */
    for (int bits = 1; bits <= MAX_BITS; bits++) {
        left = 2 * left - code->count[bits];
        if (left < 0) return 0;
        next[bits + 1] = (uint16_t)(next[bits] + code->count[bits]);
    }
    if (left > 0 && !(lone && code->longest == 1)) return 0;
    for (int i = 0; i < n; i++)
        if (lengths[i]) code->symbol[next[lengths[i]]++] = (uint16_t)i;
    return 1;
}

/* The next symbol, or -1 for bits that no symbol has. */
static int decode(Stream *s, const Code *code) {
    int value = 0, first = 0, index = 0, longest = code->longest ? code->longest : 1;
    for (int bits = 1; bits <= longest; bits++) {
        value |= (int)take(s, 1);
        int count = code->count[bits];
        if (value - count < first) return code->symbol[index + value - first];
        index += count;
        first = (first + count) << 1;
        value <<= 1;
    }
    return -1;
}

static void copy_match(Stream *s, const Code *distances, int symbol) {
    static const uint16_t base[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                      31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t extra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                      2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t far[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
                                     193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    if (symbol >= 29) fault(s, "an invalid length code");
    size_t count = base[symbol] + take(s, extra[symbol]);
    int reach = decode(s, distances);
    if (reach < 0 || reach >= 30) fault(s, "an invalid distance code");
    size_t distance = far[reach] + take(s, reach < 4 ? 0 : reach / 2 - 1);
    require_room(s);
    if (distance > s->made) fault(s, "a distance reaches before the first byte");
    for (; count; count--) put(s, s->room[s->made - distance]);
}

static void read_symbols(Stream *s, const Code *literals, const Code *distances) {
    for (;;) {
        int symbol = decode(s, literals);
        if (symbol < 0) fault(s, "an invalid literal or length code");
        if (symbol == 256) return;
        if (symbol < 256)
            put(s, (uint8_t)symbol);
        else
            copy_match(s, distances, symbol - 257);
    }
}

static void read_stored(Stream *s) {
    take(s, s->bits % 8);
    uint32_t length = take(s, 16), check = take(s, 16);
    if ((length ^ 0xffff) != check) fault(s, "the two lengths of a stored block disagree");
    for (; length; length--) {
        require_room(s);
        put(s, (uint8_t)take(s, 8));
    }
}

static void read_fixed(Stream *s) {
    uint8_t lengths[LITERALS];
    Code literals, distances;
    for (int i = 0; i < LITERALS; i++) lengths[i] = (uint8_t)(i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8);
    build(&literals, lengths, LITERALS, 0);
    memset(lengths, 5, DISTANCES);
    build(&distances, lengths, DISTANCES, 0);
    read_symbols(s, &literals, &distances);
}

static void read_lengths(Stream *s, const Code *code, uint8_t *lengths, int wanted) {
    for (int have = 0; have < wanted;) {
        int symbol = code->longest ? decode(s, code) : (int)(take(s, 1) & 0); /* no code at all reads as length 0 */
        if (symbol < 16) {
            if (symbol < 0) fault(s, "an invalid code of lengths");
            lengths[have++] = (uint8_t)symbol;
            continue;
        }
        uint8_t value = 0;
        int repeat;
        if (symbol == 16) {
            repeat = 3 + (int)take(s, 2);
            if (!have) fault(s, "a repeat before the first length");
            value = lengths[have - 1];
        } else {
            repeat = symbol == 17 ? 3 + (int)take(s, 3) : 11 + (int)take(s, 7);
        }
        if (have + repeat > wanted) fault(s, "more lengths than symbols");
        memset(lengths + have, value, (size_t)repeat);
        have += repeat;
    }
}

static void read_dynamic(Stream *s) {
    static const uint8_t order[LENGTH_CODES] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[LITERALS + DISTANCES] = {0};
    Code literals, distances;
    uint32_t header = take(s, 14);
    int nlit = 257 + (int)(header & 31), ndist = 1 + (int)(header >> 5 & 31), ncode = 4 + (int)(header >> 10);
    if (nlit > 286 || ndist > 30) fault(s, "too many symbols");
    for (int i = 0; i < ncode; i++) lengths[order[i]] = (uint8_t)take(s, 3);
    if (!build(&literals, lengths, LENGTH_CODES, 0)) fault(s, "the code of lengths is no code");
    memset(lengths, 0, sizeof lengths);
    read_lengths(s, &literals, lengths, nlit + ndist);
    if (!lengths[256]) fault(s, "a block that cannot end");
    if (!build(&literals, lengths, nlit, 1)) fault(s, "the literals' code is no code");
    if (!build(&distances, lengths + nlit, ndist, 1)) fault(s, "the distances' code is no code");
    read_symbols(s, &literals, &distances);
}

static uint32_t adler(const uint8_t *data, size_t length) {
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < length; i++) {
        a = (a + data[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

static void read_stream(Stream *s) {
    uint32_t method = take(s, 8), flags = take(s, 8);
    if ((method << 8 | flags) % 31 || (method & 15) != 8 || method >> 4 > 7 || flags & 32)
        fault(s, "not a zlib header, or one with a preset dictionary");
    uint32_t last;
    do {
        last = take(s, 1);
        switch (take(s, 2)) {
        case 0: read_stored(s); break;
        case 1: read_fixed(s); break;
        case 2: read_dynamic(s); break;
        default: fault(s, "an invalid kind of block");
        }
    } while (!last);
    take(s, s->bits % 8);
    uint32_t check = 0;
    for (int i = 0; i < 4; i++) check = check << 8 | take(s, 8);
    if (check != adler(s->room, s->made)) fault(s, "the Adler-32 is wrong");
    if (s->made > s->expected) leave(s, INFLATE_MORE, "the stream inflates to more");
    if (s->made < s->expected) fault(s, "the stream inflates to less");
    if (s->position < s->length) fault(s, "bytes follow the stream");
}

Inflated inflate_exactly(const uint8_t *data, size_t length, uint8_t *room, size_t expected, const char **why) {
    Stream s = {.data = data, .length = length, .room = room, .expected = expected};
    int left = setjmp(s.leave);
    if (left) {
        *why = s.why;
        return (Inflated)(left - 1);
    }
    read_stream(&s);
    return INFLATE_EXACT;
}
