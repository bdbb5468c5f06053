/* The program of a model, step by step, on one image. */
#ifndef PERTURB_NETWORK_H
#define PERTURB_NETWORK_H

#include "model.h"
#include "png.h"

/* logits (classes). 0 where the image cannot be prepared exactly. */
int run_network(const Model *model, const Pixels *pixels, double *logits);

#endif
