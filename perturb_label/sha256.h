/* SHA-256 (FIPS 180-4), streaming. */
#ifndef PERTURB_SHA256_H
#define PERTURB_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[64];
} Sha256;

void sha256_begin(Sha256 *hash);
void sha256_add(Sha256 *hash, const void *data, size_t length);
void sha256_end(Sha256 *hash, char hex[65]);

#endif
