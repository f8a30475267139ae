// vpdpbusd   32-bit lane += four products of an unsigned with a signed byte; this form does not saturate
//
// Its first factor is unsigned, so a + 128 goes in and 128 * sum(b) comes off again:
//   a . b = (a + 128) . b - 128 * (1 . b)
#include "kernels.h"

#include <immintrin.h>
#include <string.h>

namespace {

// (a + 128) * b <= 255 * 128 < 2^15, so 2^15 elements stay below 2^30 in 32 bits.
constexpr size_t kBlock = 32768;

struct Sums {
  __m256i shifted_i32x8;  // (a + 128) . b
  __m256i b_i32x8;        // 1 . b
};

LOCALQ_TARGET_AVX_VNNI inline Sums accumulate(Sums sums, const int8_t* a, const int8_t* b) {
  const __m256i a_i8x32 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a));
  const __m256i b_i8x32 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
  const __m256i a_shifted_u8x32 = _mm256_xor_si256(a_i8x32, _mm256_set1_epi8(-128));
  sums.shifted_i32x8 = _mm256_dpbusd_avx_epi32(sums.shifted_i32x8, a_shifted_u8x32, b_i8x32);
  sums.b_i32x8 = _mm256_dpbusd_avx_epi32(sums.b_i32x8, _mm256_set1_epi8(1), b_i8x32);
  return sums;
}

LOCALQ_TARGET_AVX_VNNI inline int32_t sum_of_lanes(__m256i sum_i32x8) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sum_i32x8), _mm256_extracti128_si256(sum_i32x8, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1));
  return _mm_cvtsi128_si32(sum);
}

LOCALQ_TARGET_AVX_VNNI int32_t dot_block(const int8_t* a, const int8_t* b, size_t length) {
  Sums even = {_mm256_setzero_si256(), _mm256_setzero_si256()}, odd = even;
  size_t i = 0;
  for (; i + 64 <= length; i += 64) {
    even = accumulate(even, a + i, b + i);
    odd = accumulate(odd, a + i + 32, b + i + 32);
  }
  for (; i + 32 <= length; i += 32) even = accumulate(even, a + i, b + i);
  if (i < length) {  // zeros in b make the padding of a harmless
    int8_t a_tail[32] = {}, b_tail[32] = {};
    memcpy(a_tail, a + i, length - i);
    memcpy(b_tail, b + i, length - i);
    odd = accumulate(odd, a_tail, b_tail);
  }
  return sum_of_lanes(_mm256_add_epi32(even.shifted_i32x8, odd.shifted_i32x8)) -
         128 * sum_of_lanes(_mm256_add_epi32(even.b_i32x8, odd.b_i32x8));
}

}  // namespace

int64_t localq::dot_i8_avx_vnni(const int8_t* a, const int8_t* b, size_t length) {
  int64_t sum = 0;
  for (size_t start = 0; start < length; start += kBlock) {
    const size_t rest = length - start;
    sum += dot_block(a + start, b + start, rest < kBlock ? rest : kBlock);
  }
  return sum;
}
