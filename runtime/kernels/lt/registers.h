// What products with LT matrices need of an instruction set beside matmul/registers.h: bytes rotated within 64 bits,
// tables of 16, 64 and 256 bytes, and sums of products of their bytes.
//
//   set                 table of 64                          value times column
//   AVX-512 with VBMI   vpermb                               vpdpbusd zmm, zmm, m32{1to16}
//   AVX-512             4 vpshufb, 3 masks                   the same
//   AVX-VNNI            4 vpshufb, 3 vpblendvb, 2 shifts     vpdpbusd
//   AVX2                the same                             vpmaddubsw, vpmaddwd, vpaddd (of 64 and more: and signs)
//   NEON                tbl (4 registers)                    sdot
#pragma once

#include "lt/layout.h"
#include "matmul/registers.h"

namespace {

typedef uint64_t u64part __attribute__((vector_size(kPartBytes)));
typedef uint32_t u32part __attribute__((vector_size(kPartBytes)));

// Byte i of every eight gets the bits from 8i + by on, of the ring of 64.
template <unsigned by>
LOCALQ_INLINE u8part rotated(u8part bytes) {
  if constexpr (by == 0) return bytes;
  const u64part rings = reinterpret_cast<u64part>(bytes);
  return reinterpret_cast<u8part>((rings >> by) | (rings << (64 - by)));
}

// Whether a table's look-up minds bits above its index.
#if defined(__AVX512VBMI__)
constexpr bool kMindsHighBits = false;
#else
constexpr bool kMindsHighBits = true;
#endif

// What is added to a table's values to make them factors of an instruction; L = 4 keeps to -64..64.
#if LOCALQ_MULTIPLIES_BYTES && !defined(__ARM_NEON)
template <unsigned state_bits>
constexpr int kLtShift = 128;
#elif defined(__AVX2__)
template <unsigned state_bits>
constexpr int kLtShift = state_bits == 4 ? 64 : 0;
#else
template <unsigned state_bits>
constexpr int kLtShift = 0;
#endif

// A table as the kernels use it: values in the order of indices, shifted, again and again up to 256.
struct LtTable {
  alignas(64) uint8_t entries[256];
};

// Looks up 2^state_bits entries.
template <unsigned state_bits>
struct LookUp {
#if defined(__AVX512VBMI__)
  static constexpr size_t kRegisters = state_bits <= 6 ? 1 : 4;
  __m512i entries[kRegisters];

  LOCALQ_MEMBER explicit LookUp(const LtTable& table) {
    for (size_t i = 0; i < kRegisters; ++i) entries[i] = _mm512_load_si512(table.entries + 64 * i);
  }
  LOCALQ_MEMBER u8part operator()(u8part index) const {
    const __m512i at = reinterpret_cast<__m512i>(index);
    if constexpr (state_bits <= 6) {
      return reinterpret_cast<u8part>(_mm512_permutexvar_epi8(at, entries[0]));
    } else {
      const __m512i low = _mm512_permutex2var_epi8(entries[0], at, entries[1]);
      const __m512i high = _mm512_permutex2var_epi8(entries[2], at, entries[3]);
      return reinterpret_cast<u8part>(_mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high));
    }
  }
#elif defined(__AVX2__)
  const LtTable& table;

  LOCALQ_MEMBER explicit LookUp(const LtTable& table_) : table(table_) {}
  LOCALQ_MEMBER u8part operator()(u8part index) const {
    return find<state_bits>(table.entries, index, moved<0>(index, 0x0F));
  }

 private:
  // Of 2^bits entries; `low` are the index's four lowest bits.
  template <unsigned bits>
  LOCALQ_INLINE u8part find(const uint8_t* entries, u8part index, u8part low) {
    if constexpr (bits == 4) {
      const __m128i sixteen = _mm_load_si128(reinterpret_cast<const __m128i*>(entries));
#if defined(__AVX512BW__)
      return reinterpret_cast<u8part>(
          _mm512_shuffle_epi8(_mm512_broadcast_i32x4(sixteen), reinterpret_cast<__m512i>(low)));
#else
      return reinterpret_cast<u8part>(
          _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(sixteen), reinterpret_cast<__m256i>(low)));
#endif
    } else {
      constexpr size_t half = size_t{1} << (bits - 1);
      const u8part lower = find<bits - 1>(entries, index, low), upper = find<bits - 1>(entries + half, index, low);
#if defined(__AVX512BW__)
      const __m512i bit = _mm512_set1_epi8(static_cast<char>(half));
      return reinterpret_cast<u8part>(
          _mm512_mask_blend_epi8(_mm512_test_epi8_mask(reinterpret_cast<__m512i>(index), bit),
                                 reinterpret_cast<__m512i>(lower), reinterpret_cast<__m512i>(upper)));
#else
      const __m256i bit = _mm256_slli_epi16(reinterpret_cast<__m256i>(index), 8 - bits);
      return reinterpret_cast<u8part>(
          _mm256_blendv_epi8(reinterpret_cast<__m256i>(lower), reinterpret_cast<__m256i>(upper), bit));
#endif
    }
  }
#else
  static constexpr size_t kTables = state_bits <= 6 ? 1 : 4;
  uint8x16x4_t entries[kTables];

  LOCALQ_MEMBER explicit LookUp(const LtTable& table) {
    for (size_t i = 0; i < kTables; ++i) {
      for (size_t k = 0; k < 4; ++k) entries[i].val[k] = vld1q_u8(table.entries + 64 * i + 16 * k);
    }
  }
  LOCALQ_MEMBER u8part operator()(u8part index) const {
    if constexpr (state_bits == 4) return vqtbl1q_u8(entries[0].val[0], index);
    u8part found = vqtbl4q_u8(entries[0], index);
    for (size_t i = 1; i < kTables; ++i) found = vqtbx4q_u8(found, entries[i], index - static_cast<uint8_t>(64 * i));
    return found;
  }
#endif
};

// Bits of the rings that lie apart: those of the four columns `group` of a step, which are one half of every eight
// bytes. Byte i gets the bits from 4i + by - at on, of the ring of 32, so that bit 4i + by comes to bit `at`; bits
// outside [at, at + count) are anything, or 0 where look-ups mind them.
template <unsigned group, unsigned by, unsigned at, unsigned count>
LOCALQ_INLINE u8part spread(u8part halves) {
#if defined(__AVX512VBMI__)
  const __m512i twice = _mm512_shuffle_epi32(reinterpret_cast<__m512i>(halves), group == 0 ? _MM_PERM_CCAA : _MM_PERM_DDBB);
  constexpr auto from = [](unsigned i) { return uint64_t{(4 * i + by - at) & 63} << (8 * i); };
  constexpr uint64_t places = from(0) | from(1) | from(2) | from(3) | from(4) | from(5) | from(6) | from(7);
  return reinterpret_cast<u8part>(_mm512_multishift_epi64_epi8(_mm512_set1_epi64(static_cast<long long>(places)), twice));
#else
  const u32part rings = reinterpret_cast<u32part>(halves);
  const u8part odd = reinterpret_cast<u8part>((rings >> 4) | (rings << 28));
#if defined(__AVX512BW__)
  const __m512i a = reinterpret_cast<__m512i>(halves), b = reinterpret_cast<__m512i>(odd);
  const __m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);
  const u8part bytes =
      reinterpret_cast<u8part>(group == 0 ? _mm512_unpacklo_epi64(low, high) : _mm512_unpackhi_epi64(low, high));
#elif defined(__AVX2__)
  const __m256i a = reinterpret_cast<__m256i>(halves), b = reinterpret_cast<__m256i>(odd);
  const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
  const u8part bytes =
      reinterpret_cast<u8part>(group == 0 ? _mm256_unpacklo_epi64(low, high) : _mm256_unpackhi_epi64(low, high));
#else
  const uint64x2_t low = vreinterpretq_u64_u8(vzip1q_u8(halves, odd));
  const uint64x2_t high = vreinterpretq_u64_u8(vzip2q_u8(halves, odd));
  const u8part bytes = vreinterpretq_u8_u64(group == 0 ? vzip1q_u64(low, high) : vzip2q_u64(low, high));
#endif
  return moved<static_cast<int>(at) - static_cast<int>(by)>(bytes, static_cast<uint8_t>(((1u << count) - 1) << at));
#endif
}

// The lowest `count` bits of one, the others of the other.
template <unsigned count>
LOCALQ_INLINE u8part joined(u8part low, u8part high) {
  constexpr uint8_t mask = (1u << count) - 1;
#if defined(__AVX512VBMI__)
  return reinterpret_cast<u8part>(_mm512_ternarylogic_epi64(_mm512_set1_epi8(mask), reinterpret_cast<__m512i>(low),
                                                            reinterpret_cast<__m512i>(high), 0xCA));
#else
  return (low & mask) | high;
#endif
}

// sum + products of four shifted table values with four bytes of the input, in each int32 lane.
template <unsigned state_bits>
LOCALQ_INLINE i32part lt_dot(i32part sum, u8part values, const int8_t* input) {
#if defined(__ARM_NEON)
  return vdotq_s32(sum, vreinterpretq_s8_u8(values), vreinterpretq_s8_u8(four_bytes(input)));
#elif LOCALQ_MULTIPLIES_BYTES
  return dot(sum, values, input);
#else
  __m256i factors = reinterpret_cast<__m256i>(values), four = reinterpret_cast<__m256i>(four_bytes(input));
  if constexpr (state_bits > 4) {  // |value| * (input with its sign): at most 2 * 127 * 127 in 16 bits
    four = _mm256_sign_epi8(four, factors);
    factors = _mm256_abs_epi8(factors);
  }  // else at most 2 * 128 * 127
  const __m256i pairs = _mm256_maddubs_epi16(factors, four);
  return sum + reinterpret_cast<i32part>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

}  // namespace
