/* From pixels to the network's input before its one rounding. */
#ifndef PERTURB_RESAMPLE_H
#define PERTURB_RESAMPLE_H

#include "png.h"

/* `input` (size, size, 3): X * 2^(2 bits - 1), where X = 2v - 255 of the resized levels v. 0 where the image's sums
 * could pass 2^53 (then `input` is not written). */
int resample(const Pixels *pixels, int size, int bits, int64_t *input);

#endif
