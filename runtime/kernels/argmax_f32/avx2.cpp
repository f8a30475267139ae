// vmaxps     returns its second source when either is NaN: with the running maximum there, NaN never enters
// vcmpeqps   finds the place of the maximum, in the one block that held it first
//
// Two passes without an index vector: one load and one maximum for eight values, then a search of one block.
#include "kernels.h"

#include <immintrin.h>

namespace {

constexpr size_t kBlock = 1024;

LOCALQ_TARGET_AVX2 inline float largest_lane(__m256 max_f32x8) {
  __m128 max = _mm_max_ps(_mm256_castps256_ps128(max_f32x8), _mm256_extractf128_ps(max_f32x8, 1));
  max = _mm_max_ps(max, _mm_movehl_ps(max, max));
  max = _mm_max_ss(max, _mm_shuffle_ps(max, max, 1));
  return _mm_cvtss_f32(max);
}

// -infinity when there is nothing but NaN.
LOCALQ_TARGET_AVX2 float largest(const float* values, size_t length) {
  const __m256 lowest = _mm256_set1_ps(-__builtin_inff());
  __m256 max0 = lowest, max1 = lowest, max2 = lowest, max3 = lowest;
  size_t i = 0;
  for (; i + 32 <= length; i += 32) {
    max0 = _mm256_max_ps(_mm256_loadu_ps(values + i), max0);
    max1 = _mm256_max_ps(_mm256_loadu_ps(values + i + 8), max1);
    max2 = _mm256_max_ps(_mm256_loadu_ps(values + i + 16), max2);
    max3 = _mm256_max_ps(_mm256_loadu_ps(values + i + 24), max3);
  }
  float max = largest_lane(_mm256_max_ps(_mm256_max_ps(max0, max1), _mm256_max_ps(max2, max3)));
  for (; i < length; ++i) max = values[i] > max ? values[i] : max;
  return max;
}

LOCALQ_TARGET_AVX2 int64_t first_equal(const float* values, size_t start, size_t end, float wanted) {
  const __m256 wanted_f32x8 = _mm256_set1_ps(wanted);
  size_t i = start;
  for (; i + 8 <= end; i += 8) {
    const __m256 equal = _mm256_cmp_ps(_mm256_loadu_ps(values + i), wanted_f32x8, _CMP_EQ_OQ);
    const unsigned mask = static_cast<unsigned>(_mm256_movemask_ps(equal));
    if (mask != 0) return static_cast<int64_t>(i) + __builtin_ctz(mask);
  }
  for (; i < end; ++i) {
    if (values[i] == wanted) return static_cast<int64_t>(i);
  }
  return -1;
}

}  // namespace

int64_t localq::argmax_f32_avx2(const float* values, size_t length) {
  float best = -__builtin_inff();
  size_t best_start = 0, best_end = length;  // no block beats -infinity: then look everywhere
  for (size_t start = 0; start < length; start += kBlock) {
    const size_t end = length - start < kBlock ? length : start + kBlock;
    const float max = largest(values + start, end - start);
    if (max > best) best = max, best_start = start, best_end = end;
  }
  return first_equal(values, best_start, best_end, best);
}
