// Between rows in memory and rows in lanes, sixteen by sixteen.
#pragma once

#include "lanes.h"

namespace {

#if defined(__AVX512F__)
constexpr i32part kInterleaveLow = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
constexpr i32part kInterleaveHigh = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
#elif defined(__AVX2__)
constexpr i32part kInterleaveLow = {0, 8, 1, 9, 2, 10, 3, 11};
constexpr i32part kInterleaveHigh = {4, 12, 5, 13, 6, 14, 7, 15};
#else
constexpr i32part kInterleaveLow = {0, 4, 1, 5};
constexpr i32part kInterleaveHigh = {2, 6, 3, 7};
#endif

// A square of registers. Each pass interleaves the first half with the second, which turns the bits of (row, lane)
// by one place; after as many passes as a lane's number has bits, row and lane have changed places
// (Stone 1971, "Parallel processing with the perfect shuffle").
LOCALQ_INLINE void transpose(f32part (&square)[kPartLanes]) {
  f32part other[kPartLanes];
  _Pragma("GCC unroll 4") for (size_t pass = 1; pass < kPartLanes; pass *= 2) {
    _Pragma("GCC unroll 8") for (size_t i = 0; i < kPartLanes / 2; ++i) {
      const f32part a = square[i], b = square[i + kPartLanes / 2];
      other[2 * i] = __builtin_shuffle(a, b, kInterleaveLow);
      other[2 * i + 1] = __builtin_shuffle(a, b, kInterleaveHigh);
    }
    _Pragma("GCC unroll 16") for (size_t i = 0; i < kPartLanes; ++i) square[i] = other[i];
  }
}

// Sixteen columns of `rows` <= kLanes rows, `stride` apart; lanes without a row repeat the last one.
LOCALQ_INLINE void rows_to_lanes(const float* from, size_t stride, size_t rows, f32x16* lanes) {
  for (size_t p = 0; p < kParts; ++p) {
    for (size_t column = 0; column < kLanes; column += kPartLanes) {
      f32part square[kPartLanes];
      _Pragma("GCC unroll 16") for (size_t i = 0; i < kPartLanes; ++i) {
        const size_t row = p * kPartLanes + i;
        square[i] = load_part(from + (row < rows ? row : rows - 1) * stride + column);
      }
      transpose(square);
      _Pragma("GCC unroll 16") for (size_t i = 0; i < kPartLanes; ++i) lanes[column + i].part[p] = square[i];
    }
  }
}

// Sixteen columns of integers from 0 to 255 in lanes -> bytes of `rows` <= kLanes rows, `stride` apart.
LOCALQ_INLINE void lanes_to_bytes(const f32x16* lanes, uint8_t* to, size_t stride, size_t rows) {
  typedef uint8_t u8part __attribute__((vector_size(kPartLanes)));
  for (size_t p = 0; p < kParts; ++p) {
    for (size_t column = 0; column < kLanes; column += kPartLanes) {
      f32part square[kPartLanes];
      _Pragma("GCC unroll 16") for (size_t i = 0; i < kPartLanes; ++i) square[i] = lanes[column + i].part[p];
      transpose(square);
      for (size_t i = 0; i < kPartLanes && p * kPartLanes + i < rows; ++i) {
        const u8part bytes = __builtin_convertvector(__builtin_convertvector(square[i], i32part), u8part);
        __builtin_memcpy(to + (p * kPartLanes + i) * stride + column, &bytes, sizeof bytes);
      }
    }
  }
}

}  // namespace
