/* The artefact's container: named tensors in one file. */
#ifndef PERTURB_CONTAINER_H
#define PERTURB_CONTAINER_H

#include <stddef.h>
#include <stdint.h>

enum { MAX_RANK = 4, MAX_NAME = 32 };

typedef struct {
    char name[MAX_NAME];
    char type; /* 'q' I64, 'i' I32, 'd' F64, 'b' U8 */
    int rank;
    uint64_t shape[MAX_RANK], count;
    const void *values;
} Tensor;

typedef struct {
    uint8_t *data;
    Tensor *tensors;
    size_t count;
    char sha256[65];
} Container;

/* Reads the whole file; ends the program with EXIT_REFUSED_MODEL where it is not such a file. */
void open_container(const char *path, Container *container);

/* The tensor of that name, type and rank; ends the program where there is none. */
const Tensor *require_tensor(const Container *container, const char *name, char type, int rank);

/* NULL where there is none of that name. */
const Tensor *find_tensor(const Container *container, const char *name);

/* All bytes of a file of at most `limit`; NULL with errno where it cannot be read (EFBIG: too large). */
uint8_t *read_file(const char *path, size_t limit, size_t *length);

#endif
