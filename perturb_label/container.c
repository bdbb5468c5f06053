/* The header is canonical JSON (RFC 8785) of one fixed shape, so a scanner for that shape is enough:
 *
 *   {"__metadata__":{"format":"perturb-model-1"},"NAME":{"data_offsets":[A,B],"dtype":"T","shape":[N,...]},...}
 *
 * names strictly rising, then spaces to a multiple of 8. Anything else is refused.
 */
#include "container.h"

#include <errno.h>

#include "exact.h"
#include "sha256.h"

#define MAX_FILE ((size_t)4 << 30)
#define MAX_HEADER ((uint64_t)16 << 20)
enum { MAX_TENSORS = 1 << 16 };

typedef struct {
    const char *path, *at, *end;
} Scan;

static _Noreturn void refuse(const char *path, const char *why) {
    die(EXIT_REFUSED_MODEL, "%s is not a readable model: %s", path, why);
}

static int skip(Scan *scan, const char *text) {
    size_t length = strlen(text);
    if ((size_t)(scan->end - scan->at) < length || memcmp(scan->at, text, length)) return 0;
    scan->at += length;
    return 1;
}

static void expect(Scan *scan, const char *text) {
    if (!skip(scan, text)) refuse(scan->path, "its header is not in canonical form");
}

static uint64_t scan_number(Scan *scan) {
    const char *start = scan->at;
    uint64_t value = 0;
    while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9' && scan->at - start < 16)
        value = 10 * value + (uint64_t)(*scan->at++ - '0');
    if (scan->at == start || (*start == '0' && scan->at - start > 1)) refuse(scan->path, "a number in its header");
    return value;
}

static void scan_name(Scan *scan, char name[MAX_NAME]) {
    int length = 0;
    expect(scan, "\"");
    while (scan->at < scan->end && length < MAX_NAME - 1 &&
           strchr("abcdefghijklmnopqrstuvwxyz._0123456789", *scan->at) && *scan->at)
        name[length++] = *scan->at++;
    name[length] = 0;
    expect(scan, "\"");
}

static int scan_type(Scan *scan, char *type) {
    static const struct {
        const char *text;
        char type;
        int size;
    } known[] = {{"I64", 'q', 8}, {"I32", 'i', 4}, {"F64", 'd', 8}, {"U8", 'b', 1}};
    for (int i = 0; i < 4; i++)
        if (skip(scan, known[i].text)) {
            *type = known[i].type;
            return known[i].size;
        }
    refuse(scan->path, "an unknown type of tensor");
}

static void scan_tensor(Scan *scan, Tensor *tensor, const uint8_t *body, uint64_t body_length) {
    scan_name(scan, tensor->name);
    expect(scan, ":{\"data_offsets\":[");
    uint64_t start = scan_number(scan);
    expect(scan, ",");
    uint64_t end = scan_number(scan);
    expect(scan, "],\"dtype\":\"");
    uint64_t size = (uint64_t)scan_type(scan, &tensor->type);
    expect(scan, "\",\"shape\":[");
    tensor->count = 1;
    do {
        if (tensor->rank == MAX_RANK) refuse(scan->path, "a tensor of more than 4 dimensions");
        uint64_t side = scan_number(scan);
        if (side && tensor->count > MAX_FILE / side) refuse(scan->path, "a tensor that is too large");
        tensor->shape[tensor->rank++] = side;
        tensor->count *= side;
    } while (skip(scan, ","));
    expect(scan, "]}");
    if (start > end || end > body_length || end - start != tensor->count * size || start % size)
        refuse(scan->path, "a tensor's offsets do not fit");
    tensor->values = body + start;
}

static void scan_header(Container *container, Scan *scan, const uint8_t *body, uint64_t body_length) {
    uint64_t total = 0;
    expect(scan, "{\"__metadata__\":{\"format\":\"perturb-model-1\"}");
    container->tensors = allocate(MAX_TENSORS, sizeof(Tensor));
    while (skip(scan, ",")) {
        Tensor *tensor = container->tensors + container->count;
        if (container->count == MAX_TENSORS) refuse(scan->path, "too many tensors");
        scan_tensor(scan, tensor, body, body_length);
        if (container->count && strcmp(tensor[-1].name, tensor->name) >= 0)
            refuse(scan->path, "its tensors are not in order");
        total += (uint64_t)tensor->count * (tensor->type == 'b' ? 1 : tensor->type == 'i' ? 4 : 8);
        container->count++;
    }
    expect(scan, "}");
    while (skip(scan, " ")) continue;
    if (scan->at != scan->end) refuse(scan->path, "its header goes on after its end");
    if (total != body_length) refuse(scan->path, "its tensors and its length disagree");
}

void open_container(const char *path, Container *container) {
    size_t length;
    uint64_t header;
    Sha256 hash;
    memset(container, 0, sizeof *container);
    container->data = read_file(path, MAX_FILE, &length);
    if (!container->data) die(EXIT_USAGE, "%s: %s", path, strerror(errno));
    if (length < 8) refuse(path, "it is shorter than 8 bytes");
    memcpy(&header, container->data, 8);
    if (header > MAX_HEADER || header > length - 8 || header % 8) refuse(path, "the length of its header");
    Scan scan = {path, (const char *)container->data + 8, (const char *)container->data + 8 + header};
    scan_header(container, &scan, container->data + 8 + header, length - 8 - header);
    sha256_begin(&hash);
    sha256_add(&hash, container->data, length);
    sha256_end(&hash, container->sha256);
}

const Tensor *find_tensor(const Container *container, const char *name) {
    size_t low = 0, high = container->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(container->tensors[middle].name, name);
        if (!order) return container->tensors + middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const Tensor *require_tensor(const Container *container, const char *name, char type, int rank) {
    const Tensor *tensor = find_tensor(container, name);
    if (!tensor) die(EXIT_REFUSED_MODEL, "the model has no tensor %s", name);
    if (tensor->type != type || tensor->rank != rank)
        die(EXIT_REFUSED_MODEL, "the model's %s has another type or rank", name);
    return tensor;
}

uint8_t *read_file(const char *path, size_t limit, size_t *length) {
    size_t room = 1 << 16;
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    uint8_t *data = allocate(room, 1);
    *length = 0;
    for (size_t got; (got = fread(data + *length, 1, room - *length, file)) > 0;) {
        *length += got;
        if (*length < room) continue;
        uint8_t *more = room <= limit ? realloc(data, 2 * room) : NULL;
        if (!more) {
            errno = EFBIG;
            break;
        }
        data = more;
        room *= 2;
    }
    int failed = ferror(file) || *length == room || *length > limit;
    if (*length > limit) errno = EFBIG;
    fclose(file);
    if (!failed) return data;
    free(data);
    return NULL;
}
