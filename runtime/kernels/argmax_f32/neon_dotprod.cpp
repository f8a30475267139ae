// The method of avx2.cpp with 4 lanes. fcmgt + bsl keep NaN out; fmaxnm would let a signalling one in.
#include "kernels.h"

#include <arm_neon.h>

namespace {

constexpr size_t kBlock = 1024;

LOCALQ_TARGET_NEON_DOTPROD inline float32x4_t larger(float32x4_t value, float32x4_t max) {
  return vbslq_f32(vcgtq_f32(value, max), value, max);
}

// -infinity when there is nothing but NaN.
LOCALQ_TARGET_NEON_DOTPROD float largest(const float* values, size_t length) {
  const float32x4_t lowest = vdupq_n_f32(-__builtin_inff());
  float32x4_t max0 = lowest, max1 = lowest, max2 = lowest, max3 = lowest;
  size_t i = 0;
  for (; i + 16 <= length; i += 16) {
    max0 = larger(vld1q_f32(values + i), max0);
    max1 = larger(vld1q_f32(values + i + 4), max1);
    max2 = larger(vld1q_f32(values + i + 8), max2);
    max3 = larger(vld1q_f32(values + i + 12), max3);
  }
  float max = vmaxvq_f32(larger(larger(max0, max1), larger(max2, max3)));
  for (; i < length; ++i) max = values[i] > max ? values[i] : max;
  return max;
}

LOCALQ_TARGET_NEON_DOTPROD int64_t first_equal(const float* values, size_t start, size_t end, float wanted) {
  const float32x4_t wanted_f32x4 = vdupq_n_f32(wanted);
  size_t i = start;
  while (i + 4 <= end && vmaxvq_u32(vceqq_f32(vld1q_f32(values + i), wanted_f32x4)) == 0) i += 4;
  for (; i < end; ++i) {
    if (values[i] == wanted) return static_cast<int64_t>(i);
  }
  return -1;
}

}  // namespace

int64_t localq::argmax_f32_neon_dotprod(const float* values, size_t length) {
  float best = -__builtin_inff();
  size_t best_start = 0, best_end = length;  // no block beats -infinity: then look everywhere
  for (size_t start = 0; start < length; start += kBlock) {
    const size_t end = length - start < kBlock ? length : start + kBlock;
    const float max = largest(values + start, end - start);
    if (max > best) best = max, best_start = start, best_end = end;
  }
  return first_equal(values, best_start, best_end, best);
}
