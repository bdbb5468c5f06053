#include "model.h"

#include "exact.h"

enum {
    MAX_STEPS = 4096,
    MAX_LAYERS = 4096,
    MAX_SIDE = 4096,
    MAX_CHANNELS = 1 << 14,
    MAX_KERNEL = 16,
    MAX_BITS = 26,
    WEIGHT_BITS = 23,
    BIAS_BITS = 50,
    LEAST_EXPONENT = -60,
    MOST_EXPONENT = 100,
    LEAST_CAP = 22
};
#define MAX_VALUES ((int64_t)1 << 28) /* of one tensor between steps */
#define SUM_LIMIT ((int64_t)1 << 53)
#define MAX_POSITIONS ((int64_t)1 << 29) /* of a pool: a sum of 24-bit integers stays within 2^53 */

/* Obligation 1, every channel: sum |w| * 2^24 plus the largest rescaled bias stays within 2^53. */
static void prove_exact(const Layer *layer, int number) {
    int64_t *totals = allocate((size_t)layer->cout, sizeof *totals);
    for (int t = 0; t < layer->taps; t++)
        for (int c = 0; c < layer->cout; c++) {
            int64_t weight = layer->weights[(size_t)t * layer->cout + c];
            if (llabs(weight) > (int64_t)1 << WEIGHT_BITS) die(EXIT_REFUSED_MODEL, "layer %d: a weight above 2^23", number);
            totals[c] += llabs(weight);
        }
    for (int c = 0; c < layer->cout; c++)
        if (totals[c] > (SUM_LIMIT - ((int64_t)1 << BIAS_BITS)) >> ACTIVATION_BITS)
            die(EXIT_REFUSED_MODEL, "layer %d, channel %d: no proof that its sums are exact", number, c);
    free(totals);
}

/* Obligations 2 and 4. Returns the largest exponent of the input for which every rescaled bias stays within 2^50. */
static int cap_of(const Layer *layer, int number) {
    int cap = NO_CAP;
    for (int c = 0; c < layer->cout; c++) {
        double bias = layer->bias[c];
        int exponent = layer->exponents[c];
        if (!isfinite(bias) || exponent < LEAST_EXPONENT || exponent > MOST_EXPONENT)
            die(EXIT_REFUSED_MODEL, "layer %d, channel %d: its bias or exponent is out of range", number, c);
        if (fabs(bias) < DBL_MIN) {
            if (bias != 0) die(EXIT_REFUSED_MODEL, "layer %d, channel %d: a subnormal bias", number, c);
            continue;
        }
        int allowed = BIAS_BITS - exponent_of(bias) - exponent;
        if (allowed < cap) cap = allowed;
    }
    if (cap < LEAST_CAP) die(EXIT_REFUSED_MODEL, "layer %d: a bias allows only exponents up to %d", number, cap);
    return cap;
}

static void read_layer(Model *model, int number) {
    Layer *layer = model->layers + number;
    char name[MAX_NAME];
    snprintf(name, sizeof name, "weights.%04d", number);
    const Tensor *weights = find_tensor(&model->file, name);
    if (!weights) die(EXIT_REFUSED_MODEL, "the model has no tensor %s", name);
    layer->depthwise = weights->rank == 3;
    require_tensor(&model->file, name, 'i', layer->depthwise ? 3 : 4);
    const uint64_t *shape = weights->shape;
    uint64_t last = shape[weights->rank - 1];
    if (shape[0] != shape[1] || !shape[0] || shape[0] > MAX_KERNEL || !shape[2] || shape[2] > MAX_CHANNELS || !last ||
        last > MAX_CHANNELS)
        die(EXIT_REFUSED_MODEL, "%s has a shape that is not allowed", name);
    layer->kernel = (int)shape[0];
    layer->cin = (int)shape[2];
    layer->cout = (int)last;
    layer->taps = layer->kernel * layer->kernel * (layer->depthwise ? 1 : layer->cin);
    layer->weights = weights->values;
    snprintf(name, sizeof name, "exponents.%04d", number);
    const Tensor *exponents = require_tensor(&model->file, name, 'i', 1);
    snprintf(name, sizeof name, "bias.%04d", number);
    const Tensor *bias = require_tensor(&model->file, name, 'd', 1);
    if (exponents->count != last || bias->count != last)
        die(EXIT_REFUSED_MODEL, "layer %d: exponents or bias of another length", number);
    layer->exponents = exponents->values;
    layer->bias = bias->values;
    prove_exact(layer, number);
    layer->cap = cap_of(layer, number);
}

static void read_layers(Model *model) {
    char name[MAX_NAME];
    for (;; model->layer_count++) {
        snprintf(name, sizeof name, "weights.%04d", model->layer_count);
        if (!find_tensor(&model->file, name)) break;
        if (model->layer_count == MAX_LAYERS) die(EXIT_REFUSED_MODEL, "more than %d layers", MAX_LAYERS);
    }
    if (model->file.count != 6 + 3 * (size_t)model->layer_count)
        die(EXIT_REFUSED_MODEL, "the model holds tensors this program does not know");
    model->layers = allocate((size_t)model->layer_count, sizeof *model->layers);
    for (int number = 0; number < model->layer_count; number++) read_layer(model, number);
}

static char *copy_text(const Tensor *tensor, const char *what) {
    char *text = allocate(tensor->count + 1, 1);
    memcpy(text, tensor->values, tensor->count);
    for (size_t i = 0; i < tensor->count; i++)
        if ((uint8_t)text[i] < 32 && text[i] != '\n') die(EXIT_REFUSED_MODEL, "a control character in the %s", what);
    return text;
}

static void read_labels(Model *model) {
    const Tensor *tensor = require_tensor(&model->file, "labels", 'b', 1);
    char *text = copy_text(tensor, "labels"), *at = text;
    model->classes = 1;
    for (size_t i = 0; i < tensor->count; i++) model->classes += text[i] == '\n';
    model->labels = allocate((size_t)model->classes, sizeof *model->labels);
    for (int i = 0; i < model->classes; i++) {
        model->labels[i] = at;
        at += strcspn(at, "\n");
        *at++ = 0;
    }
    model->name = copy_text(require_tensor(&model->file, "name", 'b', 1), "name");
}

static int within(int64_t value, int64_t low, int64_t high) { return low <= value && value <= high; }

static int fits(const Layer *layer, int64_t kernel, int64_t cin, int64_t cout) {
    return layer->kernel == kernel && layer->cin == cin && layer->cout == cout;
}

/* Obligations 3 and 5 for one step: whether its own numbers and its layers agree. */
static int is_sound(const Model *model, const Step *step) {
    const Layer *layer = model->layers + step->layer;
    int layers = step->op == OP_POOL ? 0 : step->op == OP_GATE ? 2 : 1;
    if (!within(step->op, OP_CONV, OP_POOL) || !within(step->silu, 0, 1) || !within(step->shortcut, 0, 3) ||
        !within(step->depthwise, 0, 1) || !within(step->kernel, 1, MAX_KERNEL) || !within(step->stride, 1, 16) ||
        !within(step->pad_top, 0, step->kernel - 1) || !within(step->pad_left, 0, step->kernel - 1) ||
        !within(step->out_height, 1, MAX_SIDE) || !within(step->out_width, 1, MAX_SIDE) ||
        !within(step->cout, 1, MAX_CHANNELS) || step->out_height * step->out_width * step->cout > MAX_VALUES ||
        (layers && !within(step->layer, 0, model->layer_count - layers)) ||
        (step->op != OP_CONV && step->height * step->width > MAX_POSITIONS))
        return 0;
    if (step->op == OP_POOL) return step->cout == step->cin && step->out_height == 1 && step->out_width == 1;
    if (step->op == OP_GATE)
        return !layer[0].depthwise && !layer[1].depthwise && fits(layer, 1, step->cin, step->cout) &&
               fits(layer + 1, 1, step->cout, step->cin) && step->out_height == step->height &&
               step->out_width == step->width;
    if (step->kernel == 1 && step->stride == 1 &&
        (step->out_height != step->height || step->out_width != step->width))
        return 0;
    if ((step->out_height - 1) * step->stride >= step->height + step->kernel ||
        (step->out_width - 1) * step->stride >= step->width + step->kernel)
        return 0;
    return layer->depthwise == step->depthwise && fits(layer, step->kernel, step->cin, step->cout) &&
           (!step->depthwise || step->cin == step->cout);
}

/* Follows the image's shape through the program. */
static void check_program(const Model *model) {
    int64_t height = model->size, width = model->size, channels = 3, kept[3] = {0};
    for (int i = 0; i < model->step_count; i++) {
        const Step *step = model->steps + i;
        if (step->height != height || step->width != width || step->cin != channels || !is_sound(model, step))
            die(EXIT_REFUSED_MODEL, "step %d of the program does not fit", i);
        if (step->shortcut & KEEPS) memcpy(kept, (int64_t[3]){height, width, channels}, sizeof kept);
        height = step->out_height;
        width = step->out_width;
        if (step->op != OP_GATE) channels = step->cout;
        if (step->shortcut & ADDS && (kept[0] != height || kept[1] != width || kept[2] != channels))
            die(EXIT_REFUSED_MODEL, "step %d adds a tensor of another shape", i);
        if (step->shortcut && step->op != OP_CONV && step->shortcut != KEEPS)
            die(EXIT_REFUSED_MODEL, "step %d adds a tensor, and is no convolution", i);
    }
    const Step *last = model->steps + model->step_count - 1;
    if (last->op != OP_CONV || last->silu || last->shortcut || height != 1 || width != 1 || channels != model->classes)
        die(EXIT_REFUSED_MODEL, "the program does not end in one logit a label");
    if (model->steps[0].op != OP_CONV || model->steps[0].layer != 0)
        die(EXIT_REFUSED_MODEL, "the program does not begin with the convolution of layer 0");
}

static void check_tables(Model *model) {
    model->silu = allocate(TABLE_ENTRIES, sizeof *model->silu);
    model->sigmoid = allocate(TABLE_ENTRIES, sizeof *model->sigmoid);
    build_tables(model->silu, model->sigmoid);
    for (int which = 0; which < 2; which++) {
        const char *name = which ? "sigmoid" : "silu";
        const Tensor *tensor = require_tensor(&model->file, name, 'q', 2);
        if (tensor->shape[0] != TABLE_ENTRIES || tensor->shape[1] != 2 ||
            memcmp(tensor->values, which ? model->sigmoid : model->silu, TABLE_ENTRIES * sizeof(Entry)))
            die(EXIT_REFUSED_MODEL, "the model's table %s is not the one this program computes", name);
    }
}

void open_model(const char *path, Model *model) {
    memset(model, 0, sizeof *model);
    open_container(path, &model->file);
    const Tensor *numbers = require_tensor(&model->file, "preprocessing", 'q', 1);
    const Tensor *program = require_tensor(&model->file, "program", 'q', 2);
    const int64_t *values = numbers->values;
    if (numbers->count != 2 || !within(values[0], 1, MAX_SIDE) || !within(values[1], 1, MAX_BITS))
        die(EXIT_REFUSED_MODEL, "the model's preprocessing is out of range");
    if (program->shape[1] != sizeof(Step) / sizeof(int64_t) || !within((int64_t)program->shape[0], 1, MAX_STEPS))
        die(EXIT_REFUSED_MODEL, "the model's program has another shape");
    model->size = (int)values[0];
    model->bits = (int)values[1];
    model->step_count = (int)program->shape[0];
    model->steps = allocate((size_t)model->step_count, sizeof *model->steps);
    memcpy(model->steps, program->values, (size_t)model->step_count * sizeof *model->steps);
    read_labels(model);
    read_layers(model);
    check_program(model);
    check_tables(model);
}
