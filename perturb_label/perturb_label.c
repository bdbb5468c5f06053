/* perturb_label: the label and logits digest of PNGs, from a model's artefact and nothing else.
 *
 * The auditor's second implementation of docs/verification-spec.md. It shares no code with the Python one. All sums are
 * integers; its tables are its own and must equal the artefact's.
 */
#include "exact.h"
#include "model.h"
#include "network.h"
#include "png.h"
#include "sha256.h"

#include <errno.h>

#define MAX_PNG ((size_t)128 << 20)
enum { DETAIL = 160 };

static const char USAGE[] =
    "usage: perturb_label [--json] [--logits] ARTEFACT PNG...\n"
    "       perturb_label --tables [ARTEFACT]\n"
    "\n"
    "Prints for each PNG: class index, label, SHA-256 of the logits, SHA-256 of the pixels.\n"
    "  --json    one JSON object a line\n"
    "  --logits  the logits too, as hexadecimal floats\n"
    "  --tables  SHA-256 of the SiLU and sigmoid tables this program computes; with ARTEFACT, compare them\n"
    "\n"
    "Exit status: 0 all labelled, 1 a PNG was refused, 2 usage or an unreadable file,\n"
    "3 the artefact was refused, 4 out of memory.\n";

typedef struct {
    int json, logits, tables;
} Options;

static void print_json_text(const char *text) {
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        if ((unsigned char)*text < 32)
            printf("\\u%04x", (unsigned char)*text);
        else
            putchar(*text);
    }
    putchar('"');
}

static void print_refusal(const Options *options, const char *path, const char *reject, const char *detail) {
    if (!options->json) {
        printf("refused\t%s\t%s\t%s\n", reject, detail, path);
        return;
    }
    printf("{\"file\":");
    print_json_text(path);
    printf(",\"reject\":\"%s\",\"detail\":", reject);
    print_json_text(detail);
    printf("}\n");
}

static void print_answer(const Options *options, const Model *model, const char *path, const Pixels *pixels,
                         const double *logits) {
    int index = 0;
    char logits_hex[65], pixels_hex[65];
    Sha256 hash;
    sha256_begin(&hash);
    for (int i = 0; i < model->classes; i++) {
        double logit = logits[i] + 0.0; /* -0 becomes 0 */
        sha256_add(&hash, &logit, sizeof logit);
        if (logits[i] > logits[index]) index = i; /* ties go to the lowest index */
    }
    sha256_end(&hash, logits_hex);
    digest_pixels(pixels, pixels_hex);
    if (options->json) {
        printf("{\"file\":");
        print_json_text(path);
        printf(",\"model\":\"%s\",\"index\":%d,\"label\":", model->file.sha256, index);
        print_json_text(model->labels[index]);
        printf(",\"logits_digest\":\"%s\",\"pixels\":\"%s\"", logits_hex, pixels_hex);
        for (int i = 0; options->logits && i < model->classes; i++)
            printf("%s\"%a\"", i ? "," : ",\"logits\":[", logits[i] + 0.0);
        printf(options->logits ? "]}\n" : "}\n");
        return;
    }
    printf("%d\t%s\t%s\t%s\t%s\n", index, model->labels[index], logits_hex, pixels_hex, path);
    for (int i = 0; options->logits && i < model->classes; i++) printf("\t%d\t%a\n", i, logits[i] + 0.0);
}

/* 1 where the file was refused. */
static int label(const Options *options, const Model *model, const char *path) {
    size_t length;
    char detail[DETAIL] = "";
    Pixels pixels;
    uint8_t *data = read_file(path, MAX_PNG, &length);
    if (!data) die(EXIT_USAGE, "%s: %s", path, strerror(errno));
    const char *reject = decode_png(data, length, &pixels, detail);
    free(data);
    double *logits = allocate((size_t)model->classes, sizeof *logits);
    if (!reject && !run_network(model, &pixels, logits)) {
        reject = "not_exact";
        snprintf(detail, DETAIL, "%u x %u cannot be resized to %d exactly", pixels.width, pixels.height, model->size);
    }
    if (reject)
        print_refusal(options, path, reject, detail);
    else
        print_answer(options, model, path, &pixels, logits);
    fflush(stdout);
    free(pixels.rgb);
    free(logits);
    return reject != NULL;
}

static void print_tables(void) {
    Entry *silu = allocate(TABLE_ENTRIES, sizeof *silu), *sigmoid = allocate(TABLE_ENTRIES, sizeof *sigmoid);
    char hex[65];
    build_tables(silu, sigmoid);
    digest_table(silu, hex);
    printf("silu\t%s\n", hex);
    digest_table(sigmoid, hex);
    printf("sigmoid\t%s\n", hex);
    free(silu);
    free(sigmoid);
}

static void close_model(Model *model) {
    free(model->file.data);
    free(model->file.tensors);
    free((char *)model->labels[0]);
    free(model->labels);
    free(model->name);
    free(model->steps);
    free(model->layers);
    free(model->silu);
    free(model->sigmoid);
}

int main(int argc, char **argv) {
    Options options = {0};
    int at = 1, refused = 0;
    for (; at < argc && !strncmp(argv[at], "--", 2); at++) {
        if (!strcmp(argv[at], "--json"))
            options.json = 1;
        else if (!strcmp(argv[at], "--logits"))
            options.logits = 1;
        else if (!strcmp(argv[at], "--tables"))
            options.tables = 1;
        else
            die(EXIT_USAGE, "unknown option %s\n%s", argv[at], USAGE);
    }
    if (options.tables) print_tables();
    if (argc - at < (options.tables ? 0 : 2)) die(EXIT_USAGE, "too few arguments\n%s", USAGE);
    if (at == argc) return 0;
    Model model;
    open_model(argv[at], &model);
    if (!options.json) printf("model\t%s\t%s\n", model.name, model.file.sha256);
    for (at++; at < argc; at++) refused |= label(&options, &model, argv[at]);
    close_model(&model);
    return refused ? EXIT_REFUSED_IMAGE : 0;
}
