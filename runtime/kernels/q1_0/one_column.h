// Q1_0 times one column with AVX2 alone: look-ups instead of multiplications. T-MAC's idea (Wei et al., 2024,
// arXiv:2407.00088), with exact sums.
//
// Four weights of a row are one of 16 sums +-a +-b +-c +-d of the input, at most 508 in magnitude: a table of 5 low bits
// (0 to 31) and one of what is above them (-16 to 15), so that four of a row's eight sums in 32 columns add up within
// a byte. For each 32 columns and 16 rows that takes 46 instructions where multiplying takes 70.
//
// Tables of a step (32 columns): for bytes 0 and 1, then 2 and 3 of a row, for low and high nibbles: low bits, high
// bits; the first byte's table in the lower half of a register, the second's in the upper.
#pragma once

#include "matmul/columns.h"
#include "q1_0/strip.h"

namespace {

// What a format does instead of the loop of columns.h where there is one column.
template <class Format>
struct OneColumn {
  static constexpr bool kOwn = false;
};

#if defined(__AVX2__) && !LOCALQ_MULTIPLIES_BYTES

constexpr size_t kSignStep = 32, kSignTables = 8;  // columns of a step, registers of its tables
constexpr int kSignLowBits = 5;

// Of sixteen bytes, four of four, every first byte of four comes first, then every second.
LOCALQ_INLINE __m128i byte_by_byte() {
  return _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}

// Sums of four inputs, for each of 16 signs; `four` has them in every lane.
LOCALQ_INLINE __m256i sums_of_signs(__m256i four) {
  // entry e of a table: the inputs whose bit of e is 0 are subtracted
  alignas(32) static constexpr auto kSigns = [] {
    struct { int8_t of[2][32]; } signs{};
    for (int half = 0; half < 2; ++half) {
      for (int lane = 0; lane < 8; ++lane) {
        const int entry = lane % 4 + 4 * half + lane / 4 * 8;
        for (int i = 0; i < 4; ++i) signs.of[half][4 * lane + i] = entry >> i & 1 ? 1 : -1;
      }
    }
    return signs;
  }();
  const __m256i ones_u8 = _mm256_set1_epi8(1), ones_i16 = _mm256_set1_epi16(1);
  __m256i sums[2];
  for (int half = 0; half < 2; ++half) {
    const __m256i sign = _mm256_load_si256(reinterpret_cast<const __m256i*>(kSigns.of[half]));
    sums[half] = _mm256_madd_epi16(_mm256_maddubs_epi16(ones_u8, _mm256_sign_epi8(four, sign)), ones_i16);
  }
  return _mm256_packs_epi32(sums[0], sums[1]);  // entries 0 to 7 in the lower half, 8 to 15 in the upper
}

LOCALQ_INLINE void make_sign_tables(const int8_t* values, size_t depth, uint8_t* tables) {
  const __m256i low_bits = _mm256_set1_epi16((1 << kSignLowBits) - 1);
  __m256i* to = reinterpret_cast<__m256i*>(tables);
  for (size_t at = 0; at < depth; at += kSignStep, to += kSignTables) {
    for (size_t nibble = 0; nibble < 2; ++nibble) {
      const __m128i inputs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + at + 16 * nibble));
      const __m256i fours = _mm256_castsi128_si256(_mm_shuffle_epi8(inputs, byte_by_byte()));
      for (int byte = 0; byte < 4; byte += 2) {
        __m256i low[2], high[2];
        for (int i = 0; i < 2; ++i) {
          const __m256i sums = sums_of_signs(_mm256_permutevar8x32_epi32(fours, _mm256_set1_epi32(byte + i)));
          low[i] = _mm256_and_si256(sums, low_bits);
          high[i] = _mm256_srai_epi16(sums, kSignLowBits);
        }
        __m256i* pair = to + 2 * byte + 2 * static_cast<int>(nibble);
        _mm256_store_si256(pair, _mm256_permute4x64_epi64(_mm256_packus_epi16(low[0], low[1]), 0xD8));
        _mm256_store_si256(pair + 1, _mm256_permute4x64_epi64(_mm256_packs_epi16(high[0], high[1]), 0xD8));
      }
    }
  }
}

// Sums of sign * input over a step, of rows 0-3, 8-11, 4-7 and 12-15 of a strip.
LOCALQ_INLINE __m256i sum_signs(const uint8_t* codes, const __m256i* tables) {
  const __m256i by_byte = _mm256_broadcastsi128_si256(byte_by_byte());
  const __m256i* lines = reinterpret_cast<const __m256i*>(codes);
  const __m256i a = _mm256_shuffle_epi8(_mm256_loadu_si256(lines), by_byte);
  const __m256i b = _mm256_shuffle_epi8(_mm256_loadu_si256(lines + 1), by_byte);
  const __m256i bytes[2] = {_mm256_permute4x64_epi64(_mm256_unpacklo_epi32(a, b), 0xD8),
                            _mm256_permute4x64_epi64(_mm256_unpackhi_epi32(a, b), 0xD8)};
  const __m256i low_nibble = _mm256_set1_epi8(15);
  __m256i low = _mm256_setzero_si256(), high = low;
#pragma GCC unroll 2
  for (size_t pair = 0; pair < 2; ++pair, tables += 4) {
    const __m256i nibbles[2] = {_mm256_and_si256(bytes[pair], low_nibble),
                                _mm256_and_si256(_mm256_srli_epi16(bytes[pair], 4), low_nibble)};
#pragma GCC unroll 2
    for (size_t i = 0; i < 2; ++i) {
      low = _mm256_add_epi8(low, _mm256_shuffle_epi8(_mm256_load_si256(tables + 2 * i), nibbles[i]));
      high = _mm256_add_epi8(high, _mm256_shuffle_epi8(_mm256_load_si256(tables + 2 * i + 1), nibbles[i]));
    }
  }
  // both halves of a sum lie beside each other: low + 32 * high, then one byte's sums plus the other's
  const __m256i weight = _mm256_set1_epi16(1 | 1 << (8 + kSignLowBits));
  const __m256i first = _mm256_maddubs_epi16(weight, _mm256_unpacklo_epi8(low, high));
  const __m256i second = _mm256_maddubs_epi16(weight, _mm256_unpackhi_epi8(low, high));
  return _mm256_add_epi16(_mm256_permute2x128_si256(first, second, 0x20),
                          _mm256_permute2x128_si256(first, second, 0x31));
}

template <>
struct OneColumn<Q1_0Strip> {
  static constexpr bool kOwn = true;

  LOCALQ_INLINE void prepare(const Column& column, size_t depth, uint8_t* tables) {
    make_sign_tables(column.values, depth, tables);
  }

  // multiply_strip of columns.h, operation for operation; `tables` as prepare() made them, 8 bytes for each column of
  // the matrix.
  static __attribute__((noinline)) void multiply_strip(const uint8_t* strip, const uint8_t* tables, size_t blocks,
                                                       const Column& column, size_t row, size_t rows) {
    constexpr size_t steps = Q1_0::weights / kSignStep;
    const __m256i* table = reinterpret_cast<const __m256i*>(tables);
    __m256 total[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (size_t block = 0; block < blocks; ++block, strip += Q1_0Strip::kBytes) {
      const uint8_t* codes = strip + Q1_0Strip::kCodes;
      __m256 products[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
#pragma GCC unroll 4
      for (size_t step = 0; step < steps; ++step, codes += kLineBytes, table += kSignTables) {
        __builtin_prefetch(codes + kAhead);
        const __m256i sums = sum_signs(codes, table);
        const __m256 scale = _mm256_broadcast_ss(column.scales + block * steps + step);
        const __m256 first = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(sums)));
        const __m256 second = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(sums, 1)));
        products[0] = _mm256_fmadd_ps(first, scale, products[0]);
        products[1] = _mm256_fmadd_ps(second, scale, products[1]);
      }
      const __m256 in_order[2] = {_mm256_permute2f128_ps(products[0], products[1], 0x20),
                                  _mm256_permute2f128_ps(products[0], products[1], 0x31)};
      for (size_t part = 0; part < 2; ++part) {
        const __m256 scale = reinterpret_cast<__m256>(load_halves(strip + 2 * part * kPartLanes));
        total[part] = _mm256_fmadd_ps(in_order[part], scale, total[part]);
      }
    }
    float results[kStripRows];
    for (size_t part = 0; part < 2; ++part) _mm256_storeu_ps(results + part * kPartLanes, total[part]);
    __builtin_memcpy(column.output + row, results, rows * sizeof(float));
  }
};

#endif

}  // namespace
