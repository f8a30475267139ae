// sdot   32-bit lane += four products of signed bytes: exact for -128 too
#include "kernels.h"

#include <arm_neon.h>

namespace {

// Elements whose products add up in 32 bits whatever their order: 2^15 * 2^14 = 2^29.
constexpr size_t kBlock = 32768;

LOCALQ_TARGET_NEON_DOTPROD int32_t dot_block(const int8_t* a, const int8_t* b, size_t length) {
  int32x4_t sum0 = vdupq_n_s32(0), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  size_t i = 0;
  for (; i + 64 <= length; i += 64) {
    sum0 = vdotq_s32(sum0, vld1q_s8(a + i), vld1q_s8(b + i));
    sum1 = vdotq_s32(sum1, vld1q_s8(a + i + 16), vld1q_s8(b + i + 16));
    sum2 = vdotq_s32(sum2, vld1q_s8(a + i + 32), vld1q_s8(b + i + 32));
    sum3 = vdotq_s32(sum3, vld1q_s8(a + i + 48), vld1q_s8(b + i + 48));
  }
  for (; i + 16 <= length; i += 16) sum0 = vdotq_s32(sum0, vld1q_s8(a + i), vld1q_s8(b + i));
  int32_t sum = vaddvq_s32(vaddq_s32(vaddq_s32(sum0, sum1), vaddq_s32(sum2, sum3)));
  for (; i < length; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

int64_t localq::dot_i8_neon_dotprod(const int8_t* a, const int8_t* b, size_t length) {
  int64_t sum = 0;
  for (size_t start = 0; start < length; start += kBlock) {
    const size_t rest = length - start;
    sum += dot_block(a + start, b + start, rest < kBlock ? rest : kBlock);
  }
  return sum;
}
