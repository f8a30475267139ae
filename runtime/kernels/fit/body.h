// The importance-weighted scale search: sixteen rows at a time, one a lane, each block by itself.
#pragma once

#include "block.h"
#include "single.h"
#include "transpose.h"

namespace {

constexpr size_t kBlockMax = 256;

// Importances below this part of the block's largest count as it: columns that no token used are still
// rounded.
constexpr float kLeastImportance = 0x1p-24f;

struct Tile {
  f32x16 lanes[kBlockMax];
  float w[kBlockMax];
};

void load_tile(const float* weights, size_t rows, size_t columns, const float* importance, size_t block,
               Tile& tile) {
  for (size_t j = 0; j < block; j += kLanes) rows_to_lanes(weights + j, columns, rows, tile.lanes + j);
  float most = 0.0f;
  for (size_t j = 0; j < block; ++j) most = importance[j] > most ? importance[j] : most;
  const float over = most > 0.0f ? 1.0f / most : 0.0f;
  for (size_t j = 0; j < block; ++j) {
    const float w = most > 0.0f ? importance[j] * over : 1.0f;
    tile.w[j] = w < kLeastImportance ? kLeastImportance : w;
  }
}

void store_half(uint16_t* to, size_t stride, size_t rows, f32x16 halves) {
  float values[kLanes];
  store(values, halves);
  for (size_t lane = 0; lane < rows; ++lane) to[lane * stride] = half_bits(values[lane]);
}

template <class Integer>
void store_integers(Integer* to, size_t stride, size_t rows, f32x16 integers) {
  float values[kLanes];
  store(values, integers);
  for (size_t lane = 0; lane < rows; ++lane) {
    to[lane * stride] = static_cast<Integer>(static_cast<int32_t>(values[lane]));
  }
}

template <bool affine, class Levels>
void store_codes(const Levels& levels, const Group& group, const Grid& grid, size_t rows, size_t columns,
                 uint8_t* codes) {
  const f32x16 inv = inverse(grid.scale);
  for (size_t j = 0; j < group.count; j += kLanes) {
    f32x16 of[kLanes];
    for (size_t i = 0; i < kLanes; ++i) {
      f32x16 x = load(group.x + (j + i) * kLanes);
      if (affine) x += grid.minimum;
      of[i] = levels.code(x * inv);
    }
    lanes_to_bytes(of, codes + j, columns, rows);
  }
}

// One block of `rows` <= kLanes rows, `index` of those in a row; pointers are of the first row.
template <bool affine, class Levels>
void fit_block(const Levels& levels, const Plan& plan, const localq_format& format, const Tile& tile,
               size_t rows, size_t columns, size_t index, const localq_blocks& out) {
  const size_t blocks = columns / format.block, count = format.block / format.group;
  Group groups[kGroupsMax] = {};
  for (size_t g = 0; g < count; ++g) {
    float weight = 0.0f;
    for (size_t j = g * format.group; j < (g + 1) * format.group; ++j) weight += tile.w[j];
    const float* x = reinterpret_cast<const float*>(tile.lanes + g * format.group);
    groups[g] = {x, tile.w + g * format.group, format.group, all(weight)};
  }
  uint8_t* codes = out.codes + index * format.block;
  Grid unit;
  if (format.scale_high == 0) {
    const Group& group = groups[0];
    const Fit fit = affine ? search_grid(levels, plan, group) : search_scale(levels, plan, group);
    unit = settle<affine>(levels, group, fit);
    store_codes<affine>(levels, group, unit, rows, columns, codes);
  } else {
    const Solution solution = fit_groups<affine>(levels, plan, format, groups, count);
    unit = solution.unit;
    for (size_t g = 0; g < count; ++g) {
      store_codes<affine>(levels, groups[g], grid_of(solution, g), rows, columns, codes + g * format.group);
      store_integers(out.scales + index * count + g, blocks * count, rows, solution.of.scale[g]);
      if (affine)
        store_integers(out.minima + index * count + g, blocks * count, rows, solution.of.minimum[g]);
    }
  }
  store_half(out.scale + index, blocks, rows, unit.scale);
  if (affine) store_half(out.minimum + index, blocks, rows, unit.minimum);
}

template <bool affine, class Levels>
void fit_matrix(const Levels& levels, const localq_format& format, const float* weights, size_t rows,
                size_t columns, const float* importance, const localq_blocks& out) {
  const Plan plan(format);
  const size_t blocks = columns / format.block, groups = columns / format.group;
  Tile tile;
  for (size_t row = 0; row < rows; row += kLanes) {
    const size_t here = rows - row < kLanes ? rows - row : kLanes;
    const localq_blocks from = {out.codes + row * columns, out.scale + row * blocks,
                                affine ? out.minimum + row * blocks : nullptr,
                                format.scale_high != 0 ? out.scales + row * groups : nullptr,
                                affine && format.minima_high != 0 ? out.minima + row * groups : nullptr};
    for (size_t index = 0; index < blocks; ++index) {
      const size_t column = index * format.block;
      load_tile(weights + row * columns + column, here, columns, importance + column, format.block, tile);
      fit_block<affine>(levels, plan, format, tile, here, columns, index, from);
    }
  }
}

bool is_uniform(const localq_format& format) {
  return format.levels[format.level_count - 1] - format.levels[0] ==
         static_cast<float>(format.level_count - 1);
}

void fit_any(const localq_format& format, const float* weights, size_t rows, size_t columns,
             const float* importance, const localq_blocks& out) {
  if (format.affine != 0) {
    fit_matrix<true>(Uniform(format), format, weights, rows, columns, importance, out);
  } else if (is_uniform(format)) {
    fit_matrix<false>(Uniform(format), format, weights, rows, columns, importance, out);
  } else {
    fit_matrix<false>(Table(format), format, weights, rows, columns, importance, out);
  }
}

}  // namespace
