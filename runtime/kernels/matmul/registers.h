// Registers of the instruction set that a file is compiled for, as products of matrices use them.
//
// A register holds kPartLanes rows of a strip (strip.h): an int32 or float lane is a row, a line of bytes has four
// consecutive weights of a row in each lane. Sums of products are exact in all sets, so all give the same bits.
//
//   set         one line of codes times one column                                            instructions
//   AVX-512     vpdpbusd zmm, zmm, m32{1to16}                                                            1
//   AVX-VNNI    vpbroadcastd, vpdpbusd                                                                   2
//   AVX2        vpbroadcastd, vpmaddubsw, vpaddw; vpmaddwd, vpaddd once for as many lines as 16 bits hold    3
//   NEON        ld1r, sdot                                                                               2
#pragma once

#include "lanes.h"

#define LOCALQ_MEMBER inline __attribute__((always_inline))

namespace {

constexpr size_t kPartBytes = 4 * kPartLanes;

typedef uint8_t u8part __attribute__((vector_size(kPartBytes)));
typedef int8_t i8part __attribute__((vector_size(kPartBytes)));
typedef uint16_t u16part __attribute__((vector_size(kPartBytes)));
typedef u8part u8part_any __attribute__((aligned(1), may_alias));

LOCALQ_INLINE u8part load_bytes(const uint8_t* from) { return *reinterpret_cast<const u8part_any*>(from); }
LOCALQ_INLINE void store_bytes(uint8_t* to, u8part bytes) { *reinterpret_cast<u8part_any*>(to) = bytes; }

// Every byte moved `by` bits up, or down where it is negative, then masked: the shift itself crosses bytes.
template <int by>
LOCALQ_INLINE u8part moved(u8part bytes, uint8_t mask) {
  const u16part pairs = reinterpret_cast<u16part>(bytes);
  if constexpr (by > 0) bytes = reinterpret_cast<u8part>(pairs << by);
  if constexpr (by < 0) bytes = reinterpret_cast<u8part>(pairs >> -by);
  return bytes & mask;
}

// The same four bytes in every lane.
LOCALQ_INLINE u8part four_bytes(const int8_t* from) {
  int32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  return reinterpret_cast<u8part>(i32part{} + four);
}

LOCALQ_INLINE f32part to_float(i32part integers) { return __builtin_convertvector(integers, f32part); }

// Sixteen-entry table, looked up with codes of 4 bits.
struct Table16 {
  uint8_t entries[16];
};

#if defined(__AVX512VNNI__)

LOCALQ_INLINE i32part load_u8(const uint8_t* from) {
  return reinterpret_cast<i32part>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
LOCALQ_INLINE i32part load_i8(const uint8_t* from) {
  return reinterpret_cast<i32part>(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
LOCALQ_INLINE f32part load_halves(const uint8_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
LOCALQ_INLINE u8part look_up(const Table16& table, u8part codes) {
  const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table.entries));
  return reinterpret_cast<u8part>(
      _mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), reinterpret_cast<__m512i>(codes)));
}

#elif defined(__AVX2__)

LOCALQ_INLINE i32part load_u8(const uint8_t* from) {
  return reinterpret_cast<i32part>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}
LOCALQ_INLINE i32part load_i8(const uint8_t* from) {
  return reinterpret_cast<i32part>(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}
LOCALQ_INLINE f32part load_halves(const uint8_t* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
LOCALQ_INLINE u8part look_up(const Table16& table, u8part codes) {
  const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table.entries));
  return reinterpret_cast<u8part>(
      _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), reinterpret_cast<__m256i>(codes)));
}

#elif defined(__ARM_NEON)

LOCALQ_INLINE i32part load_u8(const uint8_t* from) {
  uint32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  const uint16x8_t wide = vmovl_u8(vcreate_u8(four));
  return reinterpret_cast<i32part>(vmovl_u16(vget_low_u16(wide)));
}
LOCALQ_INLINE i32part load_i8(const uint8_t* from) {
  uint32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  const int16x8_t wide = vmovl_s8(vcreate_s8(four));
  return reinterpret_cast<i32part>(vmovl_s16(vget_low_s16(wide)));
}
LOCALQ_INLINE f32part load_halves(const uint8_t* from) {
  uint64_t four;
  __builtin_memcpy(&four, from, sizeof four);
  return vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(four)));
}
LOCALQ_INLINE u8part look_up(const Table16& table, u8part codes) {
  return vqtbl1q_u8(vld1q_u8(table.entries), codes);
}

#else  // the ABI's floor, for files that fold and unfold only

LOCALQ_INLINE i32part load_u8(const uint8_t* from) { return i32part{from[0], from[1], from[2], from[3]}; }
LOCALQ_INLINE i32part load_i8(const uint8_t* from) {
  const int8_t* at = reinterpret_cast<const int8_t*>(from);
  return i32part{at[0], at[1], at[2], at[3]};
}
LOCALQ_INLINE u8part look_up(const Table16& table, u8part codes) {
  for (size_t i = 0; i < kPartBytes; ++i) codes[i] = table.entries[codes[i]];
  return codes;
}

#endif

// --- sums of products ---------------------------------------------------------------------------------------

// Whether one instruction multiplies bytes of codes, all up to 255, and adds four products to an int32 lane.
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__ARM_FEATURE_MATMUL_INT8)
#define LOCALQ_MULTIPLIES_BYTES 1
#else
#define LOCALQ_MULTIPLIES_BYTES 0
#endif
constexpr bool kMultipliesBytes = LOCALQ_MULTIPLIES_BYTES;

// Chains of additions that run side by side: an addition waits for the one before it in its chain.
#if LOCALQ_MULTIPLIES_BYTES || defined(__ARM_FEATURE_DOTPROD)
constexpr size_t kMostChains = 4;
#else
constexpr size_t kMostChains = 1;
#endif

// Codes above this one are "wide": what add_products then adds is code - kWideShift times the input.
constexpr unsigned kHighestNarrow = 127;
constexpr int kWideShift = kMultipliesBytes ? 0 : 128;

#if LOCALQ_MULTIPLIES_BYTES

LOCALQ_INLINE i32part dot(i32part sum, u8part codes, const int8_t* input) {
#if defined(__AVX512VNNI__)
  return reinterpret_cast<i32part>(
      _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(codes),
                          reinterpret_cast<__m512i>(four_bytes(input))));
#elif defined(__AVXVNNI__)
  return reinterpret_cast<i32part>(
      _mm256_dpbusd_avx_epi32(reinterpret_cast<__m256i>(sum), reinterpret_cast<__m256i>(codes),
                              reinterpret_cast<__m256i>(four_bytes(input))));
#else
  return vusdotq_s32(sum, codes, vreinterpretq_s8_u8(four_bytes(input)));
#endif
}
template <unsigned highest, size_t lines, size_t chains>
LOCALQ_INLINE void add_products(const u8part (&codes)[lines], const int8_t* input, i32part (&sum)[chains]) {
#pragma GCC unroll 16
  for (size_t i = 0; i < lines; ++i) sum[i % chains] = dot(sum[i % chains], codes[i], input + 4 * i);
}

#elif defined(__AVX2__)

// |input| <= 127 and code <= highest: a 16-bit lane takes 2 * 127 * highest from each line.
template <unsigned highest, size_t lines, size_t chains>
LOCALQ_INLINE void add_products(const u8part (&codes)[lines], const int8_t* input, i32part (&sum)[chains]) {
  const __m256i ones = _mm256_set1_epi16(1);
  constexpr bool wide = highest > kHighestNarrow;
  constexpr size_t together = wide ? 1 : 32767 / (254 * highest);
#pragma GCC unroll 16
  for (size_t first = 0; first < lines; first += together) {
    __m256i sum_i16x16 = _mm256_setzero_si256();
    const size_t end = lines - first < together ? lines : first + together;
    for (size_t i = first; i < end; ++i) {
      __m256i code = reinterpret_cast<__m256i>(codes[i]), four = reinterpret_cast<__m256i>(four_bytes(input + 4 * i));
      if constexpr (wide) {  // |code - 128| * (input with its sign): at most 2 * 128 * 127
        code = _mm256_xor_si256(code, _mm256_set1_epi8(-128));
        four = _mm256_sign_epi8(four, code);
        code = _mm256_abs_epi8(code);
      }
      const __m256i products = _mm256_maddubs_epi16(code, four);
      sum_i16x16 = i == first ? products : _mm256_add_epi16(sum_i16x16, products);
    }
    sum[0] += reinterpret_cast<i32part>(_mm256_madd_epi16(sum_i16x16, ones));
  }
}

#elif defined(__ARM_FEATURE_DOTPROD)

template <unsigned highest, size_t lines, size_t chains>
LOCALQ_INLINE void add_products(const u8part (&codes)[lines], const int8_t* input, i32part (&sum)[chains]) {
#pragma GCC unroll 16
  for (size_t i = 0; i < lines; ++i) {
    u8part code = codes[i];
    if constexpr (highest > kHighestNarrow) code ^= 0x80;
    sum[i % chains] = vdotq_s32(sum[i % chains], vreinterpretq_s8_u8(code),
                                vreinterpretq_s8_u8(four_bytes(input + 4 * i)));
  }
}

#endif

}  // namespace
