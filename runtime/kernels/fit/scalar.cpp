#include "kernels.h"

#include "fit/body.h"

void localq::fit_f32_scalar(const localq_format* format, const float* weights, size_t rows, size_t columns,
                            const float* importance, const localq_blocks* blocks) {
  fit_any(*format, weights, rows, columns, importance, *blocks);
}
