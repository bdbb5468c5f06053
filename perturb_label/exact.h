/* The few operations on binary64 that the definition allows between two sums, and how the program ends.
 *
 * Everything else in this program is integers. Each operation here is a single IEEE 754 operation or exact; the
 * Makefile forbids contraction (fused multiply-add), and the two checks below forbid the rest.
 */
#ifndef PERTURB_EXACT_H
#define PERTURB_EXACT_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__FAST_MATH__) || FLT_EVAL_METHOD != 0
#error "binary64 operations must round once: compile without -ffast-math, for a machine without excess precision"
#endif
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the artefact is read in place; this program is for little-endian machines"
#endif

enum { EXIT_REFUSED_IMAGE = 1, EXIT_USAGE = 2, EXIT_REFUSED_MODEL = 3, EXIT_MEMORY = 4 };

/* Ends the program with a message on standard error. */
#define die(code, ...)                                                                                       \
    do {                                                                                                     \
        fflush(stdout);                                                                                      \
        fprintf(stderr, "perturb_label: " __VA_ARGS__);                                                      \
        fputc('\n', stderr);                                                                                 \
        exit(code);                                                                                          \
    } while (0)

static inline void *allocate(size_t count, size_t size) {
    void *block = calloc(count ? count : 1, size); /* calloc refuses a product that overflows */
    if (!block) die(EXIT_MEMORY, "no memory for %zu x %zu bytes", count, size);
    return block;
}

/* 2^e as a double, for -1022 <= e <= 1023. */
static inline double power_of_two(int e) {
    if (e < -1022 || e > 1023) die(EXIT_REFUSED_MODEL, "2^%d is beyond binary64", e);
    uint64_t bits = (uint64_t)(e + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ex(x) in |x| = m * 2^ex, 1/2 <= m < 1, for a normal x that is not 0. */
static inline int exponent_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (int)(bits >> 52 & 0x7ff) - 1022;
}

/* The nearest integer, ties to even: adding 2^52 leaves a double no room for a fraction. */
static inline double round_even(double x) {
    const double whole = 4503599627370496.0;
    double magnitude = fabs(x), rounded = (magnitude + whole) - whole;
    return copysign(magnitude < whole ? rounded : magnitude, x);
}

#endif
