#include "kernels.h"

int64_t localq::argmax_f32_scalar(const float* values, size_t length) {
  int64_t best = -1;
  for (size_t i = 0; i < length; ++i) {
    const bool is_number = values[i] == values[i];
    if (is_number && (best < 0 || values[i] > values[best])) best = static_cast<int64_t>(i);
  }
  return best;
}
