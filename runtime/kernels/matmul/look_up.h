// Codes that stand for levels of a table.
#pragma once

#include "matmul/codes.h"

namespace {

// The levels plus 128.
constexpr Table16 kTableIq4 = [] {
  Table16 table{};
  for (size_t i = 0; i < 16; ++i) table.entries[i] = static_cast<uint8_t>(static_cast<int>(kLevelsIq4[i]) + 128);
  return table;
}();

// Folded as `Inner`, looked up where they are multiplied.
template <class Inner, const Table16& table>
struct LookedUp : Inner {
  static constexpr unsigned kHighest = 255;
  static constexpr int kLowest = -128;

  LOCALQ_INLINE void decode(const uint8_t* at, u8part (&codes)[Inner::kLines]) {
    Inner::decode(at, codes);
#pragma GCC unroll 16
    for (size_t i = 0; i < Inner::kLines; ++i) codes[i] = look_up(table, codes[i]);
  }
};

}  // namespace
