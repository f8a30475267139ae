// vpmovsxbw  sign-extend 16 bytes of memory to 16-bit lanes
// vpmaddwd   multiply 16-bit lanes and add neighbours into 32 bits: exact, -128 * -128 * 2 = 2^15
//
// Not vpmaddubsw: it saturates its 16-bit sums, and the sign trick before it (vpsignb) is wrong for -128.
#include "kernels.h"

#include <immintrin.h>

namespace {

// Elements whose products add up in 32 bits whatever their order: 2^15 * 2^14 = 2^29.
constexpr size_t kBlock = 32768;

LOCALQ_TARGET_AVX2 inline __m256i products_i32x8(const int8_t* a, const int8_t* b) {
  const __m256i a_i16x16 = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a)));
  const __m256i b_i16x16 = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b)));
  return _mm256_madd_epi16(a_i16x16, b_i16x16);
}

LOCALQ_TARGET_AVX2 inline int32_t sum_of_lanes(__m256i sum_i32x8) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sum_i32x8), _mm256_extracti128_si256(sum_i32x8, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1));
  return _mm_cvtsi128_si32(sum);
}

LOCALQ_TARGET_AVX2 int32_t dot_block(const int8_t* a, const int8_t* b, size_t length) {
  __m256i sum0 = _mm256_setzero_si256(), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  size_t i = 0;
  for (; i + 64 <= length; i += 64) {
    sum0 = _mm256_add_epi32(sum0, products_i32x8(a + i, b + i));
    sum1 = _mm256_add_epi32(sum1, products_i32x8(a + i + 16, b + i + 16));
    sum2 = _mm256_add_epi32(sum2, products_i32x8(a + i + 32, b + i + 32));
    sum3 = _mm256_add_epi32(sum3, products_i32x8(a + i + 48, b + i + 48));
  }
  for (; i + 16 <= length; i += 16) sum0 = _mm256_add_epi32(sum0, products_i32x8(a + i, b + i));
  int32_t sum = sum_of_lanes(_mm256_add_epi32(_mm256_add_epi32(sum0, sum1), _mm256_add_epi32(sum2, sum3)));
  for (; i < length; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

int64_t localq::dot_i8_avx2(const int8_t* a, const int8_t* b, size_t length) {
  int64_t sum = 0;
  for (size_t start = 0; start < length; start += kBlock) {
    const size_t rest = length - start;
    sum += dot_block(a + start, b + start, rest < kBlock ? rest : kBlock);
  }
  return sum;
}
