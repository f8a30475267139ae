// Reference for correctness, fallback for every processor, baseline for benchmarks: kept free of vectors.
#include "kernels.h"

int64_t localq::dot_i8_scalar(const int8_t* a, const int8_t* b, size_t length) {
  int64_t sum = 0;
  for (size_t i = 0; i < length; ++i) sum += a[i] * b[i];
  return sum;
}
