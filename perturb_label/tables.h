/* SiLU and sigmoid at every multiple of 2^-12 from -16 to 16: values in units of 2^-40, slopes in units of 2^-30. */
#ifndef PERTURB_TABLES_H
#define PERTURB_TABLES_H

#include <stdint.h>

enum { TABLE_HALF = 65536, TABLE_ENTRIES = 2 * TABLE_HALF + 1 };

typedef int64_t Entry[2]; /* value, slope */

/* Both tables, TABLE_ENTRIES each, from integers alone. */
void build_tables(Entry *silu, Entry *sigmoid);

void digest_table(const Entry *table, char hex[65]);

#endif
