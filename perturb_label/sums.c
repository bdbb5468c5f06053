/* Dense: patches of GROUP positions against LANES channels, so that the compiler keeps GROUP x LANES accumulators in
 * registers and turns the inner loop into vector multiply-adds of the machine at hand. Order does not matter: that is
 * the point of exact sums.
 */
#include "sums.h"

#include <assert.h>

#include "exact.h"

enum { GROUP = 4, LANES = 16, TILE = 16 * GROUP };

typedef struct {
    int64_t *bias; /* rescaled, an integer in the channel's unit */
    double *unit;  /* 2^-(e + exponent) */
} Scale;

static Scale make_scale(const Layer *layer, int exponent) {
    Scale scale = {allocate((size_t)layer->cout, sizeof(int64_t)), allocate((size_t)layer->cout, sizeof(double))};
    for (int c = 0; c < layer->cout; c++) {
        double bias = round_even(layer->bias[c] * power_of_two(layer->exponents[c]) * power_of_two(exponent));
        if (!(fabs(bias) <= 1125899906842624.0)) die(EXIT_REFUSED_MODEL, "a rescaled bias passes 2^50");
        scale.bias[c] = (int64_t)bias;
        scale.unit[c] = power_of_two(-(exponent + layer->exponents[c]));
    }
    return scale;
}

static void free_scale(Scale scale) {
    free(scale.bias);
    free(scale.unit);
}

static double finish(int64_t sum, const Scale *scale, int c) {
    sum += scale->bias[c];
    assert(llabs(sum) <= (int64_t)1 << 53);
    return (double)sum * scale->unit[c];
}

/* (taps, cout) to (cout / LANES, taps, LANES), zeros where cout ends. */
static int32_t *pack_weights(const Layer *layer) {
    size_t blocks = ((size_t)layer->cout + LANES - 1) / LANES, taps = (size_t)layer->taps;
    int32_t *packed = allocate(blocks * taps * LANES, sizeof *packed);
    for (size_t t = 0; t < taps; t++)
        for (int c = 0; c < layer->cout; c++)
            packed[((size_t)(c / LANES) * taps + t) * LANES + (size_t)(c % LANES)] =
                layer->weights[t * (size_t)layer->cout + (size_t)c];
    return packed;
}

/* sums (GROUP, LANES) of `taps` products each; patch (taps, GROUP), weights (taps, LANES). */
static void multiply_block(const int32_t *restrict patch, const int32_t *restrict weights, int taps,
                           int64_t sums[GROUP][LANES]) {
    int64_t held[GROUP][LANES] = {{0}};
    for (int t = 0; t < taps; t++)
        for (int p = 0; p < GROUP; p++) {
            int32_t value = patch[t * GROUP + p];
            for (int c = 0; c < LANES; c++) held[p][c] += (int64_t)value * weights[t * LANES + c];
        }
    memcpy(sums, held, sizeof held);
}

/* One position's patch into column `p` of its group. */
static void gather(const Step *step, const Grid *input, int64_t position, int32_t *patch) {
    int64_t top = position / step->out_width * step->stride - step->pad_top;
    int64_t left = position % step->out_width * step->stride - step->pad_left;
    for (int64_t y = top; y < top + step->kernel; y++)
        for (int64_t x = left; x < left + step->kernel; x++, patch += input->channels * GROUP) {
            int inside = 0 <= y && y < step->height && 0 <= x && x < step->width;
            const int32_t *pixel = inside ? input->m + (y * step->width + x) * input->channels : NULL;
            for (int c = 0; c < input->channels; c++) patch[c * GROUP] = pixel ? pixel[c] : 0;
        }
}

static void store_block(int64_t sums[GROUP][LANES], const Scale *scale, int64_t first, int64_t end, int channel,
                        int cout, double *y) {
    for (int p = 0; p < GROUP && first + p < end; p++)
        for (int c = channel; c < channel + LANES && c < cout; c++)
            y[(first + p) * cout + c] = finish(sums[p][c - channel], scale, c);
}

static void convolve_dense(const Layer *layer, const Step *step, const Grid *input, const Scale *scale, double *y) {
    int64_t end = step->out_height * step->out_width, sums[GROUP][LANES];
    size_t group = (size_t)layer->taps * GROUP;
    int32_t *packed = pack_weights(layer), *patches = allocate(TILE / GROUP * group, sizeof *patches);
    for (int64_t tile = 0; tile < end; tile += TILE) {
        for (int p = 0; p < TILE && tile + p < end; p++)
            gather(step, input, tile + p, patches + (size_t)(p / GROUP) * group + p % GROUP);
        for (int c = 0; c < layer->cout; c += LANES)
            for (int p = 0; p < TILE && tile + p < end; p += GROUP) {
                multiply_block(patches + (size_t)(p / GROUP) * group, packed + (size_t)c * (size_t)layer->taps,
                               layer->taps, sums);
                store_block(sums, scale, tile + p, end, c, layer->cout, y);
            }
    }
    free(packed);
    free(patches);
}

static void convolve_depthwise(const Layer *layer, const Step *step, const Grid *input, const Scale *scale, double *y) {
    int channels = layer->cout;
    int64_t *sums = allocate((size_t)channels, sizeof *sums), end = step->out_height * step->out_width;
    for (int64_t position = 0; position < end; position++) {
        int64_t top = position / step->out_width * step->stride - step->pad_top;
        int64_t left = position % step->out_width * step->stride - step->pad_left;
        memset(sums, 0, (size_t)channels * sizeof *sums);
        for (int64_t ky = 0; ky < step->kernel; ky++)
            for (int64_t kx = 0; kx < step->kernel; kx++) {
                if (top + ky < 0 || top + ky >= step->height || left + kx < 0 || left + kx >= step->width) continue;
                const int32_t *pixel = input->m + ((top + ky) * step->width + left + kx) * channels;
                const int32_t *weights = layer->weights + (ky * step->kernel + kx) * channels;
                for (int c = 0; c < channels; c++) sums[c] += (int64_t)pixel[c] * weights[c];
            }
        for (int c = 0; c < channels; c++) y[position * channels + c] = finish(sums[c], scale, c);
    }
    free(sums);
}

void convolve(const Layer *layer, const Step *step, const Grid *input, double *y) {
    Scale scale = make_scale(layer, input->exponent);
    if (layer->depthwise)
        convolve_depthwise(layer, step, input, &scale, y);
    else
        convolve_dense(layer, step, input, &scale, y);
    free_scale(scale);
}

void multiply_matrix(const Layer *layer, const Grid *input, double *y) {
    Step step = {.kernel = 1,
                 .stride = 1,
                 .height = 1,
                 .width = input->positions,
                 .out_height = 1,
                 .out_width = input->positions};
    convolve(layer, &step, input, y);
}
