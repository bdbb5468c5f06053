/* One zlib stream (RFC 1950, RFC 1951) into a buffer of exactly the length that is expected. */
#ifndef PERTURB_INFLATE_H
#define PERTURB_INFLATE_H

#include <stddef.h>
#include <stdint.h>

typedef enum { INFLATE_EXACT, INFLATE_FAULT, INFLATE_MORE } Inflated;

/* `room` holds `expected` + 1 bytes. INFLATE_EXACT: the stream ended, gave just those bytes, has the right Adler-32 and not
 * a byte follows it. INFLATE_MORE: it gives more. INFLATE_FAULT: anything else; `why` then says what. */
Inflated inflate_exactly(const uint8_t *data, size_t length, uint8_t *room, size_t expected, const char **why);

#endif
