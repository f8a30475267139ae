// One 16-byte load with an add a step; four chains, so that loads and not adds are the limit.
#include "kernels.h"

#include <arm_neon.h>

LOCALQ_TARGET_NEON_DOTPROD uint64_t localq::read_stream_neon_dotprod(const void* data, size_t bytes) {
  const uint64_t* words = static_cast<const uint64_t*>(data);
  uint64x2_t sum0 = vdupq_n_u64(0), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  for (size_t i = 0; i < bytes / sizeof(uint64_t); i += 8) {
    sum0 = vaddq_u64(sum0, vld1q_u64(words + i));
    sum1 = vaddq_u64(sum1, vld1q_u64(words + i + 2));
    sum2 = vaddq_u64(sum2, vld1q_u64(words + i + 4));
    sum3 = vaddq_u64(sum3, vld1q_u64(words + i + 6));
  }
  return vaddvq_u64(vaddq_u64(vaddq_u64(sum0, sum1), vaddq_u64(sum2, sum3)));
}
