// One 32-byte load with an add a step; four chains, so that loads and not adds are the limit.
#include "kernels.h"

#include <immintrin.h>

LOCALQ_TARGET_AVX2 uint64_t localq::read_stream_avx2(const void* data, size_t bytes) {
  const __m256i* vectors = static_cast<const __m256i*>(data);
  __m256i sum0 = _mm256_setzero_si256(), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  for (size_t i = 0; i < bytes / sizeof(__m256i); i += 4) {
    sum0 = _mm256_add_epi64(sum0, _mm256_load_si256(vectors + i));
    sum1 = _mm256_add_epi64(sum1, _mm256_load_si256(vectors + i + 1));
    sum2 = _mm256_add_epi64(sum2, _mm256_load_si256(vectors + i + 2));
    sum3 = _mm256_add_epi64(sum3, _mm256_load_si256(vectors + i + 3));
  }
  const __m256i sum = _mm256_add_epi64(_mm256_add_epi64(sum0, sum1), _mm256_add_epi64(sum2, sum3));
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
  return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}
