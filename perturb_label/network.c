#include "network.h"

#include "exact.h"
#include "resample.h"
#include "sums.h"

static const double HALF_UNIT = 0.5;

static double largest(const double *values, int64_t count) {
    double found = 0;
    for (int64_t i = 0; i < count; i++) found = fabs(values[i]) > found ? fabs(values[i]) : found;
    return found;
}

static double highest(const double *values, int64_t count, double found) {
    for (int64_t i = 0; i < count; i++) found = values[i] > found ? values[i] : found;
    return found;
}

/* The exponent of a tensor whose largest magnitude is at most `bound`. */
static int choose_exponent(double bound, int cap) {
    if (!isfinite(bound)) die(EXIT_REFUSED_MODEL, "activations pass binary64");
    int exponent = bound == 0 ? ACTIVATION_BITS : ACTIVATION_BITS - exponent_of(bound);
    if (exponent > cap) exponent = cap;
    if (exponent < LEAST_GRID) die(EXIT_REFUSED_MODEL, "activations near 2^%d are too large", 24 - exponent);
    return exponent;
}

static Grid make_grid(int64_t positions, int channels, int exponent) {
    return (Grid){allocate((size_t)(positions * channels), sizeof(int32_t)), exponent, channels, positions};
}

static int32_t to_mantissa(double scaled) {
    double rounded = round_even(scaled);
    if (!(fabs(rounded) <= 16777216.0)) die(EXIT_REFUSED_MODEL, "an activation passes 2^24 units: %.17g", rounded);
    return (int32_t)rounded;
}

/* Rounds to multiples of 2^-exponent, half to even. */
static Grid round_to_grid(const double *values, int64_t positions, int channels, int exponent) {
    Grid grid = make_grid(positions, channels, exponent);
    double scale = power_of_two(exponent);
    for (int64_t i = 0; i < positions * channels; i++) grid.m[i] = to_mantissa(values[i] * scale);
    return grid;
}

/* Value plus slope times the distance from the nearest entry. */
static double look_up(const Entry *table, double y) {
    double index = round_even(y * 4096.0);
    if (index > TABLE_HALF) index = TABLE_HALF;
    if (index < -TABLE_HALF) index = -TABLE_HALF;
    const int64_t *entry = table[(int64_t)index + TABLE_HALF];
    double distance = y - index * (1.0 / 4096.0);
    double rise = distance * ((double)entry[1] * (1.0 / 1073741824.0));
    return rise + (double)entry[0] * (1.0 / 1099511627776.0);
}

static void look_up_all(const Entry *table, double *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = look_up(table, y[i]);
}

/* Mean over positions: an exact sum and one division. `mean` (channels). */
static void take_mean(const Grid *grid, double *mean) {
    double unit = power_of_two(-grid->exponent);
    int64_t *sums = allocate((size_t)grid->channels, sizeof *sums);
    for (int64_t p = 0; p < grid->positions; p++)
        for (int c = 0; c < grid->channels; c++) sums[c] += grid->m[p * grid->channels + c];
    for (int c = 0; c < grid->channels; c++) mean[c] = (double)sums[c] * unit / (double)grid->positions;
    free(sums);
}

static Grid pool(const Grid *grid, int cap) {
    double *mean = allocate((size_t)grid->channels, sizeof *mean);
    take_mean(grid, mean);
    Grid pooled = round_to_grid(mean, 1, grid->channels, choose_exponent(largest(mean, grid->channels), cap));
    free(mean);
    return pooled;
}

/* A matrix and SiLU, on one position. */
static Grid squeeze(const Layer *layer, const Entry *silu, const Grid *grid, int cap) {
    double *y = allocate((size_t)layer->cout, sizeof *y);
    multiply_matrix(layer, grid, y);
    int exponent = choose_exponent(highest(y, layer->cout, HALF_UNIT), cap);
    look_up_all(silu, y, layer->cout);
    Grid squeezed = round_to_grid(y, 1, layer->cout, exponent);
    free(y);
    return squeezed;
}

/* Squeeze-excite: every channel times a gate between 0 and 1 that is a multiple of 2^-24. */
static Grid apply_gate(const Model *model, const Step *step, const Grid *grid, int cap) {
    const Layer *layers = model->layers + step->layer;
    int channels = grid->channels;
    double *gate = allocate((size_t)channels, sizeof *gate);
    Grid pooled = pool(grid, layers[0].cap), squeezed = squeeze(layers, model->silu, &pooled, layers[1].cap);
    multiply_matrix(layers + 1, &squeezed, gate);
    look_up_all(model->sigmoid, gate, channels);
    Grid factor = round_to_grid(gate, 1, channels, GATE_BITS);
    int64_t most = 0, widest = 0, count = grid->positions * channels;
    for (int64_t i = 0; i < count; i++) most = llabs(grid->m[i]) > most ? llabs(grid->m[i]) : most;
    for (int c = 0; c < channels; c++) widest = factor.m[c] > widest ? factor.m[c] : widest;
    double unit = power_of_two(-(grid->exponent + GATE_BITS));
    Grid gated = make_grid(grid->positions, channels, choose_exponent((double)(most * widest) * unit, cap));
    double scale = unit * power_of_two(gated.exponent);
    for (int64_t i = 0; i < count; i++)
        gated.m[i] = to_mantissa((double)((int64_t)grid->m[i] * factor.m[i % channels]) * scale);
    free(gate);
    free(pooled.m);
    free(squeezed.m);
    free(factor.m);
    return gated;
}

static void add_grid(const Grid *grid, double *values) {
    double unit = power_of_two(-grid->exponent);
    for (int64_t i = 0; i < grid->positions * grid->channels; i++) values[i] += (double)grid->m[i] * unit;
}

static Grid apply_convolution(const Model *model, const Step *step, const Grid *grid, const Grid *kept, int cap) {
    const Layer *layer = model->layers + step->layer;
    int64_t positions = step->out_height * step->out_width, count = positions * layer->cout;
    double *y = allocate((size_t)count, sizeof *y), bound;
    convolve(layer, step, grid, y);
    if (step->silu && !kept) {
        bound = highest(y, count, HALF_UNIT); /* silu(y) <= max(y, 1/2) */
        look_up_all(model->silu, y, count);
    } else {
        if (step->silu) look_up_all(model->silu, y, count);
        if (kept) add_grid(kept, y);
        bound = largest(y, count);
    }
    Grid found = round_to_grid(y, positions, layer->cout, choose_exponent(bound, cap));
    free(y);
    return found;
}

static int prepare(const Model *model, const Pixels *pixels, Grid *grid) {
    int64_t count = 3 * (int64_t)model->size * model->size, *input = allocate((size_t)count, sizeof *input);
    double *values = allocate((size_t)count, sizeof *values), unit = power_of_two(1 - 2 * model->bits);
    int exact = resample(pixels, model->size, model->bits, input);
    if (exact) {
        for (int64_t i = 0; i < count; i++) values[i] = (double)input[i] * unit;
        int exponent = choose_exponent(largest(values, count), model->layers[0].cap);
        *grid = round_to_grid(values, (int64_t)model->size * model->size, 3, exponent);
    }
    free(input);
    free(values);
    return exact;
}

/* What the step after number `i` demands of its input's exponent. */
static int next_cap(const Model *model, int i) {
    const Step *next = model->steps + i + 1;
    return next->op == OP_CONV ? model->layers[next->layer].cap : NO_CAP;
}

int run_network(const Model *model, const Pixels *pixels, double *logits) {
    Grid grid, kept = {0}, made;
    if (!prepare(model, pixels, &grid)) return 0;
    for (int i = 0; i < model->step_count - 1; i++) {
        const Step *step = model->steps + i;
        if (step->shortcut & KEEPS) {
            if (kept.m != grid.m) free(kept.m);
            kept = grid;
        }
        if (step->op == OP_POOL)
            made = pool(&grid, next_cap(model, i));
        else if (step->op == OP_GATE)
            made = apply_gate(model, step, &grid, next_cap(model, i));
        else
            made = apply_convolution(model, step, &grid, step->shortcut & ADDS ? &kept : NULL, next_cap(model, i));
        if (grid.m != kept.m) free(grid.m);
        grid = made;
    }
    const Step *last = model->steps + model->step_count - 1;
    convolve(model->layers + last->layer, last, &grid, logits);
    free(kept.m);
    free(grid.m);
    return 1;
}
