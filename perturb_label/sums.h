/* The exact sums: true integers, int32 times int32 into int64. */
#ifndef PERTURB_SUMS_H
#define PERTURB_SUMS_H

#include "model.h"

/* Values m * 2^-exponent, |m| <= 2^24, (positions, channels). */
typedef struct {
    int32_t *m;
    int exponent, channels;
    int64_t positions;
} Grid;

/* y (positions, cout): a layer's sums plus its rescaled bias, exact. */
void convolve(const Layer *layer, const Step *step, const Grid *input, double *y);

/* The same for a matrix on every position. */
void multiply_matrix(const Layer *layer, const Grid *input, double *y);

#endif
