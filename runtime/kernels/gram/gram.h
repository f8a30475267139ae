// G += sign * X^T X, the lower triangle, in tiles of kTile x kTile.
//
// An element is a sum over chunks of kDepth tokens, each a chain of multiply_add from 0, added in order: the
// bits depend on how tokens are split among calls, never on tiles, threads or the width of a vector. Both
// sides of a tile are packed (kDepth x kTile, L2), then a register block of kRows x kColumns runs down the
// tokens:
//
//   per token: kColumns / kf32part loads, kRows broadcasts, kRows * kColumns / kf32part multiply_add
#pragma once

#include "lanes.h"

namespace {

constexpr size_t kTile = 256, kDepth = 128;
#if defined(__AVX512F__)
constexpr size_t kRows = 8, kVectors = 2;
#elif defined(__AVX2__)
constexpr size_t kRows = 4, kVectors = 2;
#else
constexpr size_t kRows = 4, kVectors = 4;
#endif
constexpr size_t kColumns = kVectors * kPartLanes;

// x[token][0..width) -> strips of `strip` columns, token by token; columns that are not there are 0.
template <size_t strip>
LOCALQ_INLINE void pack(const float* x, size_t tokens, size_t stride, size_t width, float* packed) {
  for (size_t first = 0; first < width; first += strip) {
    const size_t there = width - first < strip ? width - first : strip;
    for (size_t token = 0; token < tokens; ++token, packed += strip) {
      const float* from = x + token * stride + first;
      if (there == strip) {
        for (size_t i = 0; i < strip; ++i) packed[i] = from[i];
      } else {
        for (size_t i = 0; i < strip; ++i) packed[i] = i < there ? from[i] : 0.0f;
      }
    }
  }
}

// Not inlined: beside anything else, GCC keeps some of the sums in memory.
__attribute__((noinline)) void multiply(const float* left, const float* right, size_t tokens, float* sums) {
  f32part sum[kRows][kVectors];
  for (size_t row = 0; row < kRows; ++row) {
    for (size_t v = 0; v < kVectors; ++v) sum[row][v] = all_part(0.0f);
  }
  for (size_t token = 0; token < tokens; ++token, left += kRows, right += kColumns) {
    f32part columns[kVectors];
    for (size_t v = 0; v < kVectors; ++v) columns[v] = load_part(right + v * kPartLanes);
    for (size_t row = 0; row < kRows; ++row) {
      const f32part x = all_part(left[row]);
      for (size_t v = 0; v < kVectors; ++v) sum[row][v] = multiply_add(x, columns[v], sum[row][v]);
    }
  }
  for (size_t row = 0; row < kRows; ++row) {
    for (size_t v = 0; v < kVectors; ++v) store_part(sums + row * kColumns + v * kPartLanes, sum[row][v]);
  }
}

LOCALQ_INLINE void add(const float* sums, float sign, float* g, size_t g_stride, size_t rows,
                       size_t columns) {
  for (size_t row = 0; row < kRows && row < rows; ++row, g += g_stride, sums += kColumns) {
    if (columns >= kColumns) {
      for (size_t v = 0; v < kColumns; v += kPartLanes) {
        store_part(g + v, multiply_add(all_part(sign), load_part(sums + v), load_part(g + v)));
      }
    } else {
      for (size_t column = 0; column < columns; ++column) {
        g[column] = __builtin_fmaf(sign, sums[column], g[column]);
      }
    }
  }
}

// One tile at (row, column) of the lower triangle of one block.
LOCALQ_INLINE void add_tile(const float* x, size_t tokens, size_t stride, size_t size, size_t row,
                            size_t column, float sign, float* g, size_t g_stride, float* workspace) {
  const size_t rows = size - row < kTile ? size - row : kTile;
  const size_t columns = size - column < kTile ? size - column : kTile;
  float *left = workspace, *right = workspace + kTile * kDepth;
  for (size_t token = 0; token < tokens; token += kDepth) {
    const size_t depth = tokens - token < kDepth ? tokens - token : kDepth;
    pack<kRows>(x + token * stride + row, depth, stride, rows, left);
    pack<kColumns>(x + token * stride + column, depth, stride, columns, right);
    for (size_t j = 0; j < columns; j += kColumns) {
      for (size_t i = 0; i < rows; i += kRows) {
        if (row + i + kRows <= column + j) continue;  // above the diagonal
        alignas(64) float sums[kRows * kColumns];
        multiply(left + i * depth, right + j * depth, depth, sums);
        add(sums, sign, g + (row + i) * g_stride + column + j, g_stride, rows - i, columns - j);
      }
    }
  }
}

LOCALQ_INLINE void gram(const float* x, size_t tokens, size_t stride, size_t blocks, size_t size, float sign,
                        float* g, size_t g_stride, size_t part, size_t parts, float* workspace) {
  size_t tile = 0;
  for (size_t block = 0; block < blocks; ++block) {
    for (size_t row = 0; row < size; row += kTile) {
      for (size_t column = 0; column <= row; column += kTile) {
        if (tile++ % parts != part) continue;
        add_tile(x + block * size, tokens, stride, size, row, column, sign, g + block * size * g_stride,
                 g_stride, workspace);
      }
    }
  }
}

}  // namespace
