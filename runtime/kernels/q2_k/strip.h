// Q2_K: codes of 2 bits in groups of 16, with scales and minima of 4 bits; a scale and a minimum for 256 weights. A
// line holds four codes, which are a group.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

// A byte for a group: the scale in the low nibble, the minimum above it.
struct NibblePairs {
  static constexpr size_t kBytes = 16 * kStripRows;

  static void pack(const Block (&blocks)[kStripRows], uint8_t* to) {
    for (size_t i = 0; i < kBytes; ++i) {
      const Block& block = blocks[i % kStripRows];
      const size_t group = i / kStripRows;
      to[i] = static_cast<uint8_t>((block.scales[group] & 15) | block.minima[group] << 4);
    }
  }
  static void unpack(const uint8_t* at, size_t row, Block& block) {
    for (size_t group = 0; group < 16; ++group) {
      block.scales[group] = at[group * kStripRows + row] & 15;
      block.minima[group] = at[group * kStripRows + row] >> 4;
    }
  }
  LOCALQ_INLINE void load(const uint8_t* at, size_t quad, size_t part, i32part (&scales)[kQuad],
                                 i32part (&minima)[kQuad]) {
    at += quad * kQuad * kStripRows + part * kPartLanes;
#pragma GCC unroll 4
    for (size_t i = 0; i < kQuad; ++i) {
      const i32part pair = load_u8(at + i * kStripRows);
      scales[i] = pair & 15;
      minima[i] = pair >> 4;
    }
  }
};

using Q2KStrip = StripFormat<Q2K, Planes<Plane<2>>, NibblePairs>;

}  // namespace
