/* From the bytes of a PNG to RGB pixels, by the strict walk of docs/verification-spec.md. */
#ifndef PERTURB_PNG_H
#define PERTURB_PNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t height, width;
    uint8_t *rgb; /* height * width * 3, to be freed */
} Pixels;

/* NULL, or the reject code of the first fault, with `detail` (160 bytes) for people. */
const char *decode_png(const uint8_t *data, size_t length, Pixels *pixels, char *detail);

/* Hex SHA-256 of "perturb/pixels/1\n", height and width (32 bits, big-endian) and the RGB bytes. */
void digest_pixels(const Pixels *pixels, char hex[65]);

#endif
