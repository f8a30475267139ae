#include "kernels.h"

uint64_t localq::read_stream_scalar(const void* data, size_t bytes) {
  const uint64_t* words = static_cast<const uint64_t*>(data);
  uint64_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
  for (size_t i = 0; i < bytes / sizeof(uint64_t); i += 4) {
    sum0 += words[i];
    sum1 += words[i + 1];
    sum2 += words[i + 2];
    sum3 += words[i + 3];
  }
  return sum0 + sum1 + sum2 + sum3;
}
