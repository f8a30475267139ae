// TQ1_0: ternary codes around 1, five in a byte, and a scale for 256 weights.
//
// A byte is the fraction 0.c0c1c2c3c4 in base 3 times 256, rounded up (quant/formats/tq1_0.py): three times it, the
// carry out of 8 bits is the first digit, the rest the next fraction. 13 lines of five codes: the last code of the last
// one is 0.
//
//   one or two columns, where bytes up to 255 are multiplied: 256 * digit = 3 * fraction - next fraction, so the sums
//   of digits are those of fractions: two additions and two products for a line of codes, none is taken out
//   else: two comparisons and four additions for a line of codes
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

struct Digits {
  static constexpr size_t kLines = 5, kBytes = kLineBytes;
  static constexpr unsigned kHighest = 2;
  static constexpr int kLowest = 0;
  static constexpr bool kFractions = kMultipliesBytes;
  static constexpr size_t kChains = 4;

  static void fold_step(const uint8_t* codes, uint8_t* to) { pack_digits<kLineBytes, kLines>(codes, to); }
  static void unfold_step(const uint8_t* at, uint8_t* codes) { unpack_digits<kLineBytes, kLines>(at, codes); }

  // Bytes less 128, for comparisons are of signed bytes; three times that is three times the byte less 128.
  LOCALQ_INLINE void decode(const uint8_t* at, u8part (&codes)[kLines]) {
    u8part fraction = load_bytes(at) ^ 0x80;
#pragma GCC unroll 5
    for (size_t digit = 0; digit < kLines; ++digit) {
      const i8part compared = reinterpret_cast<i8part>(fraction);
      const i8part above_third = compared > 85 - 128, above_two_thirds = compared > 170 - 128;
      codes[digit] = reinterpret_cast<u8part>(-above_third - above_two_thirds);
      fraction = fraction + fraction + fraction;
    }
  }

#if LOCALQ_MULTIPLIES_BYTES
  // Even chains: fractions, odd ones: the fractions after them.
  LOCALQ_INLINE void add_fractions(const uint8_t* at, const int8_t* input, i32part (&chain)[kChains]) {
    u8part fraction = load_bytes(at);
#pragma GCC unroll 5
    for (size_t digit = 0; digit < kLines; ++digit) {
      const size_t first = 2 * digit % kChains;
      chain[first] = dot(chain[first], fraction, input + 4 * digit);
      fraction = fraction + fraction + fraction;
      chain[first + 1] = dot(chain[first + 1], fraction, input + 4 * digit);
    }
  }
#else
  static void add_fractions(const uint8_t*, const int8_t*, i32part (&)[kChains]) {}
#endif
  LOCALQ_INLINE i32part sum_of_digits(const i32part (&chain)[kChains]) {
    return ((chain[0] + chain[2]) * 3 - (chain[1] + chain[3])) >> 8;
  }
};

using Tq1_0Strip = StripFormat<Tq1_0, Digits, NoGroups>;

}  // namespace
