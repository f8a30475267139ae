// One step of H = S^T S, S lower triangular, from the last rows to the first.
//
// Rows [first, last) of the lower triangle of H become those of S: the square on the diagonal in float64, the
// panel left of it by substitution in registers of columns. What remains, H[0..first) -= panel^T panel, is
// the Gram kernel's. Every element is one chain of operations, so its bits do not depend on the width of a
// vector.
#pragma once

#include "lanes.h"

namespace {

constexpr size_t kSquare = 128;  // rows of a step at most; as in localq_kernels.h
constexpr size_t kVectors = kPartLanes == 8 ? 2 : 4, kColumns = kVectors * kPartLanes;
static_assert(kSquare % kColumns == 0, "a panel is a whole number of column groups");

struct Square {
  double lower[kSquare][kSquare];
  float minus_upper[kSquare][kSquare];  // [r][s] = -S[s][r] of the square
  float inverse[kSquare];               // 1 / S[r][r]
  float columns[kSquare][kColumns];
};
static_assert(sizeof(Square) <= 65536 * sizeof(float), "LOCALQ_CHOLESKY_WORKSPACE");

// The row whose pivot is not above `least`, or -1.
LOCALQ_INLINE int64_t factor_square(float* h, size_t n, size_t first, size_t size, double least,
                                    Square& square) {
  for (size_t r = 0; r < size; ++r) {
    for (size_t c = 0; c <= r; ++c) square.lower[r][c] = static_cast<double>(h[(first + r) * n + first + c]);
  }
  for (size_t r = size; r-- > 0;) {
    double* row = square.lower[r];
    if (!(row[r] > least)) return static_cast<int64_t>(first + r);
    const double root = __builtin_sqrt(row[r]);
    for (size_t c = 0; c < r; ++c) row[c] /= root;
    row[r] = root;
    for (size_t i = 0; i < r; ++i) {
      const double factor = row[i];
      for (size_t c = 0; c <= i; ++c) square.lower[i][c] -= factor * row[c];
    }
  }
  for (size_t r = 0; r < size; ++r) {
    for (size_t c = 0; c <= r; ++c) {
      h[(first + r) * n + first + c] = static_cast<float>(square.lower[r][c]);
      square.minus_upper[c][r] = static_cast<float>(-square.lower[r][c]);
    }
    square.inverse[r] = static_cast<float>(1.0 / square.lower[r][r]);
  }
  return -1;
}

// Rows [row, row + rows) of kColumns columns of the panel; the rows below them are solved.
template <size_t rows>
LOCALQ_INLINE void solve(Square& square, size_t row, size_t size) {
  f32part sum[rows][kVectors];
  for (size_t r = 0; r < rows; ++r) {
    for (size_t v = 0; v < kVectors; ++v) sum[r][v] = load_part(square.columns[row + r] + v * kPartLanes);
  }
  for (size_t s = row + rows; s < size; ++s) {
    f32part solved[kVectors];
    for (size_t v = 0; v < kVectors; ++v) solved[v] = load_part(square.columns[s] + v * kPartLanes);
    for (size_t r = 0; r < rows; ++r) {
      const f32part factor = all_part(square.minus_upper[row + r][s]);
      for (size_t v = 0; v < kVectors; ++v) sum[r][v] = multiply_add(factor, solved[v], sum[r][v]);
    }
  }
  for (size_t r = rows; r-- > 0;) {
    for (size_t s = rows; --s > r;) {
      const f32part factor = all_part(square.minus_upper[row + r][row + s]);
      for (size_t v = 0; v < kVectors; ++v) sum[r][v] = multiply_add(factor, sum[s][v], sum[r][v]);
    }
    for (size_t v = 0; v < kVectors; ++v) {
      sum[r][v] *= all_part(square.inverse[row + r]);
      store_part(square.columns[row + r] + v * kPartLanes, sum[r][v]);
    }
  }
}

__attribute__((noinline)) void solve_columns(Square& square, size_t size) {
  size_t row = size;
  for (; row % 4 != 0; --row) solve<1>(square, row - 1, size);
  for (; row > 0; row -= 4) solve<4>(square, row - 4, size);
}

LOCALQ_INLINE int64_t cholesky_step(float* h, size_t n, size_t first, size_t last, double least,
                                    float* workspace) {
  Square& square = *reinterpret_cast<Square*>(workspace);
  const size_t size = last - first;
  const int64_t broken = factor_square(h, n, first, size, least, square);
  if (broken >= 0) return broken;
  for (size_t column = 0; column < first; column += kColumns) {
    float* panel = h + first * n + column;
    for (size_t r = 0; r < size; ++r)
      __builtin_memcpy(square.columns[r], panel + r * n, sizeof square.columns[r]);
    solve_columns(square, size);
    for (size_t r = 0; r < size; ++r)
      __builtin_memcpy(panel + r * n, square.columns[r], sizeof square.columns[r]);
  }
  return -1;
}

}  // namespace
