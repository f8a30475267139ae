// TQ1_0: ternary codes around 1, five in a byte, and a scale for 256 weights.
//
// A byte is the fraction 0.c0c1c2c3c4 in base 3 times 256, rounded up (quant/formats/tq1_0.py): three times it, the
// carry out of 8 bits is the first digit. 13 lines of five codes: the last code of the last one is 0.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

struct Digits {
  static constexpr size_t kLines = 5, kBytes = kLineBytes;
  static constexpr unsigned kHighest = 2;
  static constexpr int kLowest = 0;

  static void fold_step(const uint8_t* codes, uint8_t* to) { pack_digits<kLineBytes, kLines>(codes, to); }
  static void unfold_step(const uint8_t* at, uint8_t* codes) { unpack_digits<kLineBytes, kLines>(at, codes); }

  // Digit after digit: of the 16-bit products of the even and the odd bytes with 3, the upper byte is the digit, the
  // lower one what is left.
  LOCALQ_INLINE void decode(const uint8_t* at, u8part (&codes)[kLines]) {
    const u8part folded = load_bytes(at);
    const u16part low = u16part{} + 0x00ff;
    u16part even = reinterpret_cast<u16part>(folded) & low, odd = reinterpret_cast<u16part>(folded) >> 8;
#pragma GCC unroll 5
    for (size_t digit = 0; digit < kLines; ++digit) {
      even *= 3;
      odd *= 3;
      codes[digit] = reinterpret_cast<u8part>(even >> 8 | (odd & ~low));
      even &= low;
      odd &= low;
    }
  }
};

using Tq1_0Strip = StripFormat<Tq1_0, Digits, NoGroups>;

}  // namespace
