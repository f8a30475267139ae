// How the codes of a record lie in lines of 64 bytes, and how registers take them out.
//
// A line as it is multiplied has four consecutive codes of each row: row 0's, row 1's, ... A folded line holds
// 8 / bits of them, the first in the lowest bits. What folds is plain C++ for the ABI's floor; decode() runs in the
// products, on the part of a line that a register holds, for all lines of a step at once.
#pragma once

#include "matmul/registers.h"
#include "matmul/strip.h"

namespace {

static_assert(kStripRows == kLanes, "a strip's rows are the lanes of lanes.h");

// `bits` bits of every code, from bit `from` on.
template <unsigned bits_, unsigned from_ = 0>
struct Plane {
  static constexpr unsigned bits = bits_, from = from_;
  static constexpr size_t together = 8 / bits_;

  template <size_t lines>
  LOCALQ_INLINE void decode(const uint8_t* at, u8part (&codes)[lines]) {
#pragma GCC unroll 16
    for (size_t line = 0; line < lines / together; ++line) {
      take<0>(load_bytes(at + line * kLineBytes), codes + line * together);
    }
  }

 private:
  template <unsigned field>
  LOCALQ_INLINE void take(u8part folded, u8part* codes) {
    constexpr int by = static_cast<int>(from) - static_cast<int>(bits * field);
    const u8part found = moved<by>(folded, static_cast<uint8_t>(((1u << bits) - 1) << from));
    codes[field] = from > 0 ? codes[field] | found : found;
    if constexpr (field + 1 < together) take<field + 1>(folded, codes);
  }
};

// Codes split into planes, the lowest first. A step has their lines for the same weights, plane by plane.
template <class... planes>
struct Planes {
  static constexpr size_t kLines = [] {
    size_t most = 0;
    ((most = planes::together > most ? planes::together : most), ...);
    return most;
  }();
  static constexpr size_t kBytes = ((kLines / planes::together * kLineBytes) + ...);
  static constexpr unsigned kHighest = (1u << (planes::bits + ...)) - 1;
  static constexpr int kLowest = 0;
  static constexpr bool kFractions = false;

  static void fold_step(const uint8_t* codes, uint8_t* to) {
    ((fold<planes::bits, kLineBytes, kLines * kLineBytes, planes::from>(codes, to),
      to += kLines / planes::together * kLineBytes),
     ...);
  }
  static void unfold_step(const uint8_t* at, uint8_t* codes) {
    ((unfold<planes::bits, kLineBytes, kLines * kLineBytes, planes::from>(at, codes),
      at += kLines / planes::together * kLineBytes),
     ...);
  }
  LOCALQ_INLINE void decode(const uint8_t* at, u8part (&codes)[kLines]) {
    ((planes::decode(at, codes), at += kLines / planes::together * kLineBytes), ...);
  }
};

}  // namespace
