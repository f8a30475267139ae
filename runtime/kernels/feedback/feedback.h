// Rounding with error feedback, 64 rows in lanes.
//
//   target[k] = weight[k] + sum over i of error[i] * coefficient[k][i],   error[k] = weight[k] -
//   value(code[k])
//
// With the unit lower factor of H = S^T S, i below k, this is LDLQ (Chee et al. 2023), which is GPTQ (Frantar
// et al. 2022) without the inverse of H. With H itself as coefficients, sums over all i are gradients of the
// loss (refine.h). A sum is one chain of multiply_add: its bits do not depend on how rows were split, on
// threads or on the width of a vector.
#pragma once

#include "feedback/grid.h"
#include "lanes.h"
#include "localq_kernels.h"

namespace {

constexpr size_t kTileRows = LOCALQ_TILE_ROWS;  // rows of a tile: a column of it is contiguous
constexpr size_t kQuad = 4;                     // columns whose targets are in registers together
constexpr size_t kDepth = 128;                  // errors (32 KiB) that stay in the first cache for many quads
constexpr size_t kVectors = kPartLanes == 8 ? 2 : 4, kRows = kVectors * kPartLanes;
static_assert(kTileRows % kRows == 0, "a tile is a whole number of row groups");

// kQuad columns of targets += errors [count][64] * coefficients [kQuad][count].
__attribute__((noinline)) void advance(const float* errors, const float* coefficients, size_t stride,
                                       size_t count, float* targets) {
  for (size_t row = 0; row < kTileRows; row += kRows, errors += kRows, targets += kRows) {
    f32part sum[kQuad][kVectors];
    for (size_t c = 0; c < kQuad; ++c) {
      for (size_t v = 0; v < kVectors; ++v) sum[c][v] = load_part(targets + c * kTileRows + v * kPartLanes);
    }
    for (size_t i = 0; i < count; ++i) {
      f32part error[kVectors];
      for (size_t v = 0; v < kVectors; ++v) error[v] = load_part(errors + i * kTileRows + v * kPartLanes);
      for (size_t c = 0; c < kQuad; ++c) {
        const f32part coefficient = all_part(coefficients[c * stride + i]);
        for (size_t v = 0; v < kVectors; ++v) sum[c][v] = multiply_add(error[v], coefficient, sum[c][v]);
      }
    }
    for (size_t c = 0; c < kQuad; ++c) {
      for (size_t v = 0; v < kVectors; ++v) store_part(targets + c * kTileRows + v * kPartLanes, sum[c][v]);
    }
  }
}

// One column's target += the error of another.
LOCALQ_INLINE void advance_one(const float* error, float coefficient, float* target) {
  for (size_t row = 0; row < kTileRows; row += kPartLanes) {
    store_part(target + row,
               multiply_add(load_part(error + row), all_part(coefficient), load_part(target + row)));
  }
}

LOCALQ_INLINE void add_errors(const localq_feedback& f, size_t first, size_t last, size_t from, size_t to,
                              float* targets) {
  for (size_t i = from; i < to; i += kDepth) {
    const size_t count = to - i < kDepth ? to - i : kDepth;
    for (size_t tile = 0; tile < f.tiles; ++tile) {
      const float* errors = f.errors + (tile * f.columns + i) * kTileRows;
      float* of_tile = targets + tile * (last - first) * kTileRows;
      for (size_t k = first; k < last; k += kQuad) {
        advance(errors, f.coefficients + k * f.columns + i, f.columns, count,
                of_tile + (k - first) * kTileRows);
      }
    }
  }
}

// The codes of one column of a tile nearest to its targets, and the errors that they leave.
template <class Grid>
LOCALQ_INLINE void round_column(const localq_feedback& f, const Grid& grid, size_t tile, size_t k,
                                const float* target) {
  const size_t group = (tile * f.groups + f.group_of[k]) * kTileRows, at = (tile * f.columns + k) * kTileRows;
  const f32x16 zero = all(0.0f);
  for (size_t row = 0; row < kTileRows; row += kLanes) {
    const f32x16 scale = load(f.scales + group + row);
    const f32x16 minimum = f.minima != nullptr ? load(f.minima + group + row) : zero;
    const f32x16 inverse = choose(larger(scale, -scale) < all(1e-30f), zero, all(1.0f) / scale);
    const f32x16 value = (load(target + row) + minimum) * inverse;
    const Rounded rounded = grid.nearest(value);
    store(f.errors + at + row, load(f.weights + at + row) - (scale * rounded.level - minimum));
    alignas(64) float codes[kLanes];
    store(codes, rounded.code);
    for (size_t lane = 0; lane < kLanes; ++lane) f.codes[at + row + lane] = static_cast<uint8_t>(codes[lane]);
  }
}

template <class Grid>
LOCALQ_INLINE void round_block(const localq_feedback& f, const Grid& grid, size_t first, size_t last,
                               float* targets) {
  for (size_t tile = 0; tile < f.tiles; ++tile) {
    const float* errors = f.errors + tile * f.columns * kTileRows;
    float* of_tile = targets + tile * (last - first) * kTileRows;
    for (size_t quad = first; quad < last; quad += kQuad) {
      float* of_quad = of_tile + (quad - first) * kTileRows;
      advance(errors + first * kTileRows, f.coefficients + quad * f.columns + first, f.columns, quad - first,
              of_quad);
      for (size_t k = quad; k < quad + kQuad; ++k) {
        float* target = of_quad + (k - quad) * kTileRows;
        for (size_t i = quad; i < k; ++i) {
          advance_one(errors + i * kTileRows, f.coefficients[k * f.columns + i], target);
        }
        round_column(f, grid, tile, k, target);
      }
    }
  }
}

LOCALQ_INLINE void feedback_targets(const localq_feedback* f, size_t first, size_t last, size_t from,
                                    size_t to, uint32_t start, float* targets) {
  const size_t floats = (last - first) * kTileRows;
  for (size_t tile = 0; tile < f->tiles; ++tile) {
    float* of_tile = targets + tile * floats;
    if (start == LOCALQ_FROM_WEIGHTS) {
      __builtin_memcpy(of_tile, f->weights + (tile * f->columns + first) * kTileRows, floats * sizeof(float));
    } else if (start == LOCALQ_FROM_ZERO) {
      __builtin_memset(of_tile, 0, floats * sizeof(float));
    }
  }
  add_errors(*f, first, last, from, to, targets);
}

LOCALQ_INLINE bool are_consecutive(const localq_format& format) {
  return format.levels[format.level_count - 1] - format.levels[0] ==
         static_cast<float>(format.level_count - 1);
}

LOCALQ_INLINE void feedback_round(const localq_feedback* f, const localq_format* format, size_t first,
                                  size_t last, float* targets) {
  if (are_consecutive(*format)) {
    round_block(*f, Integers(*format), first, last, targets);
  } else {
    round_block(*f, Table(*format), first, last, targets);
  }
}

}  // namespace
