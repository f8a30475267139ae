#include "kernels.h"

#include "cholesky/cholesky.h"

int64_t localq::cholesky_step_f32_neon_dotprod(float* h, size_t n, size_t first, size_t last, double least,
                                               float* workspace) {
  return cholesky_step(h, n, first, last, least, workspace);
}
