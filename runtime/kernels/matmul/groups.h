// Scales and minima of the groups within a block, as a record holds them: bytes of sixteen rows beside each other.
//
// load() gives those of four consecutive groups at once, one row a lane; `at` is the record's groups, and `part`
// counts registers of rows.
#pragma once

#include "matmul/registers.h"
#include "matmul/strip.h"

namespace {

constexpr size_t kQuad = 4;

struct NoGroups {
  static constexpr size_t kBytes = 0;
  static void pack(const Block (&)[kStripRows], uint8_t*) {}
  static void unpack(const uint8_t*, size_t, Block&) {}
};

// A signed byte for each scale.
template <size_t groups>
struct ByteScales {
  static constexpr size_t kBytes = groups * kStripRows;

  static void pack(const Block (&blocks)[kStripRows], uint8_t* to) {
    for (size_t i = 0; i < kBytes; ++i) to[i] = static_cast<uint8_t>(blocks[i % kStripRows].scales[i / kStripRows]);
  }
  static void unpack(const uint8_t* at, size_t row, Block& block) {
    for (size_t g = 0; g < groups; ++g) block.scales[g] = static_cast<int8_t>(at[g * kStripRows + row]);
  }
  LOCALQ_INLINE void load(const uint8_t* at, size_t quad, size_t part, i32part (&scales)[kQuad],
                                 i32part (&)[kQuad]) {
    at += quad * kQuad * kStripRows + part * kPartLanes;
#pragma GCC unroll 4
    for (size_t i = 0; i < kQuad; ++i) scales[i] = load_i8(at + i * kStripRows);
  }
};

// Six bits for each scale, `lowered` by what is subtracted, then for each minimum: those of four groups in three
// rows of bytes, the fourth's bits above those of the others, two by two.
template <size_t groups, int lowered, bool has_minima>
struct SixBits {
  static constexpr size_t kBytes = groups * 12 * (has_minima ? 2 : 1);

  static void pack(const Block (&blocks)[kStripRows], uint8_t* to) {
    for (size_t row = 0; row < kStripRows; ++row) {
      uint8_t values[2 * groups];
      for (size_t g = 0; g < groups; ++g) {
        values[g] = static_cast<uint8_t>(blocks[row].scales[g] + lowered);
        values[groups + g] = blocks[row].minima[g];
      }
      for (size_t i = 0; i < kBytes / kStripRows; ++i) {
        const uint8_t* four = values + i / 3 * kQuad;
        to[i * kStripRows + row] = static_cast<uint8_t>((four[i % 3] & 63) | (four[3] >> (i % 3 * 2) & 3) << 6);
      }
    }
  }
  static void unpack(const uint8_t* at, size_t row, Block& block) {
    uint8_t values[2 * groups] = {};
    for (size_t i = 0; i < kBytes / kStripRows; ++i) {
      const uint8_t byte = at[i * kStripRows + row];
      uint8_t* four = values + i / 3 * kQuad;
      four[i % 3] = byte & 63;
      four[3] = static_cast<uint8_t>(four[3] | byte >> 6 << (i % 3 * 2));
    }
    for (size_t g = 0; g < groups; ++g) {
      block.scales[g] = static_cast<int8_t>(values[g] - lowered);
      block.minima[g] = values[groups + g];
    }
  }
  LOCALQ_INLINE void load(const uint8_t* at, size_t quad, size_t part, i32part (&scales)[kQuad],
                                 i32part (&minima)[kQuad]) {
    at += part * kPartLanes;
    load_four(at + quad * 3 * kStripRows, scales);
    for (size_t i = 0; i < kQuad && lowered != 0; ++i) scales[i] -= lowered;
    if (has_minima) load_four(at + groups * 12 + quad * 3 * kStripRows, minima);
  }

 private:
  LOCALQ_INLINE void load_four(const uint8_t* at, i32part (&values)[kQuad]) {
    const i32part a = load_u8(at), b = load_u8(at + kStripRows), c = load_u8(at + 2 * kStripRows);
    values[0] = a & 63;
    values[1] = b & 63;
    values[2] = c & 63;
    values[3] = a >> 6 | (b >> 6) << 2 | (c >> 6) << 4;
  }
};

}  // namespace
