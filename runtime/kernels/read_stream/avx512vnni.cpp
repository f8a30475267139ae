// One 64-byte load with an add a step; four chains, so that loads and not adds are the limit.
#include "kernels.h"

#include <immintrin.h>

LOCALQ_TARGET_AVX512VNNI uint64_t localq::read_stream_avx512vnni(const void* data, size_t bytes) {
  const __m512i* vectors = static_cast<const __m512i*>(data);
  __m512i sum0 = _mm512_setzero_si512(), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  for (size_t i = 0; i < bytes / sizeof(__m512i); i += 4) {
    sum0 = _mm512_add_epi64(sum0, _mm512_load_si512(vectors + i));
    sum1 = _mm512_add_epi64(sum1, _mm512_load_si512(vectors + i + 1));
    sum2 = _mm512_add_epi64(sum2, _mm512_load_si512(vectors + i + 2));
    sum3 = _mm512_add_epi64(sum3, _mm512_load_si512(vectors + i + 3));
  }
  const __m512i sum = _mm512_add_epi64(_mm512_add_epi64(sum0, sum1), _mm512_add_epi64(sum2, sum3));
  alignas(64) uint64_t lanes[8];  // not _mm512_reduce_add_epi64: it adds signed, where overflow is undefined
  _mm512_store_si512(lanes, sum);
  uint64_t total = 0;
  for (const uint64_t lane : lanes) total += lane;
  return total;
}
