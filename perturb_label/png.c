/* The checks carry the numbers they have in docs/verification-spec.md. */
#include "png.h"

#include "exact.h"
#include "inflate.h"
#include "sha256.h"

enum { MAX_SIDE = 8192, MAX_PIXELS = 1 << 24, MAX_DATA_CHUNKS = 8192, DETAIL = 160 };

typedef struct {
    const uint8_t *data;
    size_t length, offset;
    char *detail;
} Walk;

typedef struct {
    const uint8_t *kind, *body;
    uint32_t length;
} Chunk;

static uint32_t big_endian(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static uint32_t crc32_of(const uint8_t *data, size_t length) {
    static uint32_t table[256];
    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
            table[i] = c;
        }
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < length; i++) crc = table[(crc ^ data[i]) & 255] ^ crc >> 8;
    return ~crc;
}

static int is_kind(const Chunk *chunk, const char *kind) { return !memcmp(chunk->kind, kind, 4); }

/* 3.2 */
static const char *read_chunk(Walk *walk, Chunk *chunk) {
    size_t left = walk->length - walk->offset;
    const uint8_t *start = walk->data + walk->offset;
    if (left < 12) {
        snprintf(walk->detail, DETAIL, "the data end at %zu, within the chunk at %zu", walk->length, walk->offset);
        return "png_chunk";
    }
    chunk->length = big_endian(start);
    if (chunk->length > left - 12) {
        snprintf(walk->detail, DETAIL, "the chunk at %zu claims %u bytes, %zu are left", walk->offset, chunk->length,
                 left - 12);
        return "png_chunk";
    }
    chunk->kind = start + 4;
    chunk->body = start + 8;
    if (crc32_of(chunk->kind, 4 + (size_t)chunk->length) != big_endian(chunk->body + chunk->length)) {
        snprintf(walk->detail, DETAIL, "the chunk at %zu has a wrong CRC", walk->offset);
        return "png_crc";
    }
    walk->offset += 12 + (size_t)chunk->length;
    return NULL;
}

/* 3.3 and 3.4 */
static const char *read_header(Walk *walk, Pixels *pixels) {
    static const uint8_t form[5] = {8, 2, 0, 0, 0}; /* depth, RGB, deflate, adaptive, not interlaced */
    Chunk chunk;
    const char *reject = read_chunk(walk, &chunk);
    if (reject) return reject;
    if (!is_kind(&chunk, "IHDR") || chunk.length != 13 || memcmp(chunk.body + 8, form, 5)) {
        snprintf(walk->detail, DETAIL, "expected IHDR of 13 bytes: 8-bit RGB, deflate, adaptive, not interlaced");
        return "png_header";
    }
    pixels->width = big_endian(chunk.body);
    pixels->height = big_endian(chunk.body + 4);
    if (!pixels->width || !pixels->height || pixels->width > MAX_SIDE || pixels->height > MAX_SIDE ||
        pixels->width * pixels->height > MAX_PIXELS) {
        snprintf(walk->detail, DETAIL, "%u x %u; sides of 1 to %d and at most %d pixels are allowed", pixels->width,
                 pixels->height, MAX_SIDE, MAX_PIXELS);
        return "png_size";
    }
    return NULL;
}

/* 3.5 and 3.6: joins the IDAT bodies in `stream`, which has room for all that is left. */
static const char *read_data(Walk *walk, uint8_t *stream, size_t *length) {
    Chunk chunk;
    int count = 0;
    for (;;) {
        const char *reject = read_chunk(walk, &chunk);
        if (reject) return reject;
        if (is_kind(&chunk, "IEND")) break;
        if (!is_kind(&chunk, "IDAT")) {
            snprintf(walk->detail, DETAIL, "only IDAT and IEND may follow IHDR, before %zu", walk->offset);
            return is_kind(&chunk, "IHDR") ? "png_header" : "png_chunk";
        }
        if (!chunk.length || count++ == MAX_DATA_CHUNKS) {
            snprintf(walk->detail, DETAIL, "an empty IDAT, or more than %d of them", MAX_DATA_CHUNKS);
            return "png_chunk";
        }
        memcpy(stream + *length, chunk.body, chunk.length);
        *length += chunk.length;
    }
    if (!count || chunk.length) {
        snprintf(walk->detail, DETAIL, "no IDAT before IEND, or IEND is not empty");
        return "png_chunk";
    }
    if (walk->offset != walk->length) {
        snprintf(walk->detail, DETAIL, "%zu bytes after IEND", walk->length - walk->offset);
        return "png_trailing";
    }
    return NULL;
}

static int paeth(int left, int up, int corner) {
    int to_left = abs(up - corner), to_up = abs(left - corner), to_corner = abs(left + up - 2 * corner);
    if (to_left <= to_up && to_left <= to_corner) return left;
    return to_up <= to_corner ? up : corner;
}

static void unfilter(const uint8_t *lines, Pixels *pixels) {
    size_t stride = 3 * (size_t)pixels->width;
    for (size_t y = 0; y < pixels->height; y++) {
        const uint8_t *line = lines + y * (1 + stride) + 1;
        uint8_t *row = pixels->rgb + y * stride;
        for (size_t i = 0; i < stride; i++) {
            int left = i >= 3 ? row[i - 3] : 0, up = y ? row[i - stride] : 0;
            int corner = y && i >= 3 ? row[i - stride - 3] : 0, guess = 0;
            switch (line[-1]) {
            case 1: guess = left; break;
            case 2: guess = up; break;
            case 3: guess = (left + up) / 2; break;
            case 4: guess = paeth(left, up, corner); break;
            default: break;
            }
            row[i] = (uint8_t)(line[i] + guess);
        }
    }
}

/* 3.7 and 3.8 */
static const char *read_lines(const uint8_t *stream, size_t length, Pixels *pixels, char *detail) {
    size_t stride = 1 + 3 * (size_t)pixels->width, expected = pixels->height * stride;
    const char *why = "", *reject = NULL;
    uint8_t *lines = allocate(expected + 1, 1);
    Inflated outcome = inflate_exactly(stream, length, lines, expected, &why);
    if (outcome != INFLATE_EXACT) reject = outcome == INFLATE_MORE ? "png_bomb" : "png_data";
    for (size_t y = 0; !reject && y < pixels->height; y++)
        if (lines[y * stride] > 4) {
            why = "a row has a filter above 4";
            reject = "png_data";
        }
    if (reject) {
        snprintf(detail, DETAIL, "%s (%zu bytes expected)", why, expected);
    } else {
        pixels->rgb = allocate(expected, 1);
        unfilter(lines, pixels);
    }
    free(lines);
    return reject;
}

const char *decode_png(const uint8_t *data, size_t length, Pixels *pixels, char *detail) {
    Walk walk = {data, length, 8, detail};
    pixels->rgb = NULL;
    if (length < 8 || memcmp(data, "\x89PNG\r\n\x1a\n", 8)) { /* 3.1 */
        snprintf(detail, DETAIL, "the first bytes are not a PNG's");
        return "png_signature";
    }
    const char *reject = read_header(&walk, pixels);
    if (reject) return reject;
    uint8_t *stream = allocate(length, 1);
    size_t joined = 0;
    reject = read_data(&walk, stream, &joined);
    if (!reject) reject = read_lines(stream, joined, pixels, detail);
    free(stream);
    return reject;
}

void digest_pixels(const Pixels *pixels, char hex[65]) {
    uint8_t head[8];
    Sha256 hash;
    for (int i = 0; i < 4; i++) {
        head[i] = (uint8_t)(pixels->height >> (24 - 8 * i));
        head[4 + i] = (uint8_t)(pixels->width >> (24 - 8 * i));
    }
    sha256_begin(&hash);
    sha256_add(&hash, "perturb/pixels/1\n", 17);
    sha256_add(&hash, head, 8);
    sha256_add(&hash, pixels->rgb, 3 * (size_t)pixels->height * pixels->width);
    sha256_end(&hash, hex);
}
