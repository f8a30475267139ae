// The method of avx2.cpp with 16 lanes; masked loads take the tails.
#include "kernels.h"

#include <immintrin.h>

namespace {

constexpr size_t kBlock = 2048;

LOCALQ_TARGET_AVX512VNNI inline __mmask16 first_lanes(size_t count) {
  return static_cast<__mmask16>((1u << count) - 1);
}

// -infinity when there is nothing but NaN.
LOCALQ_TARGET_AVX512VNNI float largest(const float* values, size_t length) {
  const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
  __m512 max0 = lowest, max1 = lowest, max2 = lowest, max3 = lowest;
  size_t i = 0;
  for (; i + 64 <= length; i += 64) {
    max0 = _mm512_max_ps(_mm512_loadu_ps(values + i), max0);
    max1 = _mm512_max_ps(_mm512_loadu_ps(values + i + 16), max1);
    max2 = _mm512_max_ps(_mm512_loadu_ps(values + i + 32), max2);
    max3 = _mm512_max_ps(_mm512_loadu_ps(values + i + 48), max3);
  }
  for (; i + 16 <= length; i += 16) max0 = _mm512_max_ps(_mm512_loadu_ps(values + i), max0);
  if (i < length) {
    const __m512 tail = _mm512_mask_loadu_ps(lowest, first_lanes(length - i), values + i);
    max1 = _mm512_max_ps(tail, max1);
  }
  return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(max0, max1), _mm512_max_ps(max2, max3)));
}

LOCALQ_TARGET_AVX512VNNI int64_t first_equal(const float* values, size_t start, size_t end, float wanted) {
  const __m512 wanted_f32x16 = _mm512_set1_ps(wanted);
  for (size_t i = start; i < end; i += 16) {
    const __mmask16 present = end - i < 16 ? first_lanes(end - i) : static_cast<__mmask16>(0xFFFF);
    const __m512 value = _mm512_maskz_loadu_ps(present, values + i);
    const __mmask16 equal = _mm512_mask_cmp_ps_mask(present, value, wanted_f32x16, _CMP_EQ_OQ);
    if (equal != 0) return static_cast<int64_t>(i) + __builtin_ctz(equal);
  }
  return -1;
}

}  // namespace

int64_t localq::argmax_f32_avx512vnni(const float* values, size_t length) {
  float best = -__builtin_inff();
  size_t best_start = 0, best_end = length;  // no block beats -infinity: then look everywhere
  for (size_t start = 0; start < length; start += kBlock) {
    const size_t end = length - start < kBlock ? length : start + kBlock;
    const float max = largest(values + start, end - start);
    if (max > best) best = max, best_start = start, best_end = end;
  }
  return first_equal(values, best_start, best_end, best);
}
