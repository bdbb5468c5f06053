/* The model: the artefact's tensors, checked and proven exact. */
#ifndef PERTURB_MODEL_H
#define PERTURB_MODEL_H

#include "container.h"
#include "tables.h"

enum { OP_CONV = 1, OP_GATE = 2, OP_POOL = 3 };
enum { KEEPS = 1, ADDS = 2 };
enum { ACTIVATION_BITS = 24, GATE_BITS = 24, NO_CAP = 60, LEAST_GRID = -100 };

typedef struct {
    int64_t op, layer, cin, cout, kernel, stride, pad_top, pad_left, height, width, out_height, out_width, depthwise,
        silu, shortcut;
} Step;

typedef struct {
    const int32_t *weights;   /* (k, k, cin, cout), depthwise (k, k, c) */
    const int32_t *exponents; /* (cout) */
    const double *bias;       /* (cout) */
    int taps;                 /* of one output: k * k * cin, depthwise k * k */
    int kernel, cin, cout, depthwise;
    int cap; /* the largest exponent of its input */
} Layer;

typedef struct {
    Container file;
    const char **labels; /* texts, each ended by 0 */
    char *name;
    int classes, size, bits;
    Step *steps;
    int step_count;
    Layer *layers;
    int layer_count;
    Entry *silu, *sigmoid; /* made here, equal to the artefact's */
} Model;

/* Ends the program with EXIT_REFUSED_MODEL where the file, a proof or a table is wrong. */
void open_model(const char *path, Model *model);

#endif
