#include "kernels.h"

#include "gram/gram.h"

void localq::gram_f32_scalar(const float* x, size_t tokens, size_t stride, size_t blocks, size_t size,
                             float sign, float* g, size_t g_stride, size_t part, size_t parts,
                             float* workspace) {
  gram(x, tokens, stride, blocks, size, sign, g, g_stride, part, parts, workspace);
}
