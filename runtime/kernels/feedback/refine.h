// Codes and scales one after the other where the loss of a block of columns is least, all else as it is.
//
// With errors e and the Hessian H, the loss of a row is e H e. Moving one weight, or one scale or minimum and
// with it a run of weights, changes it by a quadratic function of the move: its slope is the gradient g = H
// e, its curvature the Hessian's quadratic form of what is moved. Whatever then makes the loss smaller is
// kept.
#pragma once

#include "feedback/feedback.h"
#include "fit/half.h"

namespace {

constexpr size_t kRangeColumns = LOCALQ_REFINE_COLUMNS, kRangeGroups = kRangeColumns / 16;

struct Workspace {
  float gradient[kRangeColumns][kTileRows];
  float moved[kRangeColumns][kTileRows];      // what one unit of a scale adds to the values
  float image[kRangeColumns][kTileRows];      // H * moved
  float between[kRangeGroups][kRangeGroups];  // sums of H over the columns of two groups
};
static_assert(sizeof(Workspace) <= LOCALQ_REFINE_WORKSPACE * sizeof(float), "LOCALQ_REFINE_WORKSPACE");

// Columns [first, last) of one tile, groups and blocks of the format as the columns lie.
struct Range {
  const localq_feedback& f;
  const localq_format& format;
  const localq_refinement& r;
  size_t first, last, tile;
  const float* outside;  // [last - first, 64]: gradients of the errors outside the range
  Workspace& work;

  float* column(float* tiles, size_t k) const { return tiles + (tile * f.columns + k) * kTileRows; }
  const float* column(const float* tiles, size_t k) const {
    return tiles + (tile * f.columns + k) * kTileRows;
  }
  float* group(float* tiles, size_t g) const { return tiles + (tile * f.groups + g) * kTileRows; }
  float* block(float* tiles, size_t b) const {
    return tiles + (tile * (f.columns / format.block) + b) * kTileRows;
  }
  const float* row_of(size_t k) const { return f.coefficients + k * f.columns; }
};

// Gradients of columns [from, to), within the range.
LOCALQ_INLINE void make_gradients(const Range& range, size_t from, size_t to) {
  for (size_t k = from; k < to; k += kQuad) {
    float* gradient = range.work.gradient[k - range.first];
    __builtin_memcpy(gradient, range.outside + (k - range.first) * kTileRows,
                     kQuad * kTileRows * sizeof(float));
    advance(range.column(range.f.errors, range.first), range.row_of(k) + range.first, range.f.columns,
            range.last - range.first, gradient);
    for (size_t c = 0; c < kQuad; ++c) {
      advance_one(range.column(range.f.errors, k + c), range.r.ridge, gradient + c * kTileRows);
    }
  }
}

// H * moved of columns [from, to).
LOCALQ_INLINE void make_images(const Range& range, size_t from, size_t to) {
  const float* moved = range.work.moved[from - range.first];
  for (size_t k = from; k < to; k += kQuad) {
    float* image = range.work.image[k - range.first];
    __builtin_memset(image, 0, kQuad * kTileRows * sizeof(float));
    advance(moved, range.row_of(k) + from, range.f.columns, to - from, image);
    for (size_t c = 0; c < kQuad; ++c) {
      advance_one(range.work.moved[k - range.first + c], range.r.ridge, image + c * kTileRows);
    }
  }
}

// The levels of columns [from, to), times `factor` of their group if there is one.
LOCALQ_INLINE void make_moved(const Range& range, size_t from, size_t to, float* factors) {
  for (size_t k = from; k < to; ++k) {
    const uint8_t* codes = range.f.codes + (range.tile * range.f.columns + k) * kTileRows;
    float* moved = range.work.moved[k - range.first];
    for (size_t row = 0; row < kTileRows; ++row) moved[row] = range.format.levels[codes[row]];
    if (factors == nullptr) continue;
    const float* factor = range.group(factors, k / range.format.group);
    for (size_t row = 0; row < kTileRows; row += kLanes) {
      store(moved + row, load(moved + row) * load(factor + row));
    }
  }
}

// The loss of 16 rows as a function of how far a scale s and a minimum m move.
struct Quadratic {
  f32x16 slope_s, slope_m, ss, sm, mm;

  inline __attribute__((always_inline)) f32x16 change(f32x16 s, f32x16 m) const {
    const f32x16 two = all(2.0f);
    return s * (s * ss - two * slope_s) + m * (m * mm + two * slope_m) - two * s * m * sm;
  }
  inline __attribute__((always_inline)) f32x16 best_scale() const {
    const f32x16 both = ss * mm, determinant = both - sm * sm;
    const i32x16 regular = determinant > both * all(1e-5f);
    const f32x16 joint = (slope_s * mm - slope_m * sm) / choose(regular, determinant, all(1.0f));
    return choose(regular, joint, quotient(slope_s, ss));
  }
  // For a scale that has moved by s.
  inline __attribute__((always_inline)) f32x16 best_minimum(f32x16 s) const {
    return quotient(s * sm - slope_m, mm);
  }
  static inline __attribute__((always_inline)) f32x16 quotient(f32x16 a, f32x16 b) {
    const i32x16 positive = b > all(0.0f);
    return choose(positive, a / choose(positive, b, all(1.0f)), all(0.0f));
  }
};

// Columns [from, to) of rows [row, row + 16); `minima`: the factors of the groups' minima, NULL for 1.
LOCALQ_INLINE Quadratic quadratic_of(const Range& range, size_t from, size_t to, size_t row, float* minima) {
  const f32x16 zero = all(0.0f);
  Quadratic q = {zero, zero, zero, zero, zero};
  const size_t group_first = from / range.format.group,
               group_last = (to + range.format.group - 1) / range.format.group;
  for (size_t g = group_first; g < group_last; ++g) {
    f32x16 gradients = zero, images = zero;
    for (size_t k = g * range.format.group; k < (g + 1) * range.format.group; ++k) {
      const size_t at = k - range.first;
      const f32x16 gradient = load(range.work.gradient[at] + row), moved = load(range.work.moved[at] + row);
      const f32x16 image = load(range.work.image[at] + row);
      q.slope_s = multiply_add(moved, gradient, q.slope_s);
      q.ss = multiply_add(moved, image, q.ss);
      gradients += gradient;
      images += image;
    }
    if (!range.format.affine) continue;
    const f32x16 factor = minima != nullptr ? load(range.group(minima, g) + row) : all(1.0f);
    q.slope_m = multiply_add(factor, gradients, q.slope_m);
    q.sm = multiply_add(factor, images, q.sm);
    f32x16 others = zero;
    for (size_t other = group_first; other < group_last; ++other) {
      const f32x16 its = minima != nullptr ? load(range.group(minima, other) + row) : all(1.0f);
      const size_t offset = range.first / range.format.group;
      others = multiply_add(all(range.work.between[g - offset][other - offset]), its, others);
    }
    q.mm = multiply_add(factor, others, q.mm);
  }
  return q;
}

// Sums of the Hessian, its ridge included, over the columns of every two groups.
LOCALQ_INLINE void make_between(const Range& range) {
  const size_t group = range.format.group, groups = (range.last - range.first) / group;
  for (size_t g = 0; g < groups; ++g) {
    float sums[kRangeColumns] = {};
    for (size_t k = 0; k < group; ++k) {
      const float* row = range.row_of(range.first + g * group + k) + range.first;
      for (size_t i = 0; i < range.last - range.first; ++i) sums[i] += row[i];
    }
    for (size_t other = 0; other < groups; ++other) {
      float sum = g == other ? range.r.ridge * static_cast<float>(group) : 0.0f;
      for (size_t i = 0; i < group; ++i) sum += sums[other * group + i];
      range.work.between[g][other] = sum;
    }
  }
}

// What the codes of columns [from, to) leave of the weights, on the grid as it is now.
LOCALQ_INLINE void make_errors(const Range& range, size_t from, size_t to) {
  for (size_t k = from; k < to; ++k) {
    const uint8_t* codes = range.f.codes + (range.tile * range.f.columns + k) * kTileRows;
    const float* scale = range.group(range.f.scales, k / range.format.group);
    const float* minimum =
        range.format.affine ? range.group(range.f.minima, k / range.format.group) : nullptr;
    const float* weight = range.column(range.f.weights, k);
    float* error = range.column(range.f.errors, k);
    for (size_t row = 0; row < kTileRows; ++row) {
      const float value = scale[row] * range.format.levels[codes[row]];
      error[row] = weight[row] - (minimum != nullptr ? value - minimum[row] : value);
    }
  }
}

template <class Grid>
LOCALQ_INLINE void refine_codes(const Range& range, const Grid& grid) {
  const localq_feedback& f = range.f;
  const float* errors = range.column(f.errors, 0);
  for (size_t quad = range.first; quad < range.last; quad += kQuad) {
    const size_t behind = quad + kQuad;
    float* of_quad = range.work.gradient[quad - range.first];
    __builtin_memcpy(of_quad, range.outside + (quad - range.first) * kTileRows,
                     kQuad * kTileRows * sizeof(float));
    advance(errors + range.first * kTileRows, range.row_of(quad) + range.first, f.columns, quad - range.first,
            of_quad);
    advance(errors + behind * kTileRows, range.row_of(quad) + behind, f.columns, range.last - behind,
            of_quad);
    for (size_t k = quad; k < behind; ++k) {
      float* target = of_quad + (k - quad) * kTileRows;
      for (size_t i = quad; i < behind; ++i) {
        if (i != k) advance_one(errors + i * kTileRows, range.row_of(k)[i], target);
      }
      const f32part step = all_part(range.r.steps[k]);
      const float* weight = range.column(f.weights, k);
      for (size_t row = 0; row < kTileRows; row += kPartLanes) {
        store_part(target + row, multiply_add(load_part(target + row), step, load_part(weight + row)));
      }
      round_column(f, grid, range.tile, k, target);
    }
  }
}

// An integer within [low, high] whose product with `unit` is nearest to its product now, moved by `step`.
LOCALQ_INLINE f32x16 moved_integer(f32x16 integer, f32x16 unit, f32x16 step, int32_t low, int32_t high) {
  const i32x16 usable = larger(unit, -unit) > all(1e-30f);
  const f32x16 wished = integer + choose(usable, step, all(0.0f)) / choose(usable, unit, all(1.0f));
  return round_to_even(smaller(larger(wished, all(static_cast<float>(low))), all(static_cast<float>(high))));
}

// The integer scale (and minimum) of one group.
LOCALQ_INLINE void refine_group(const Range& range, size_t g) {
  const localq_format& format = range.format;
  const size_t from = g * format.group, to = from + format.group, b = from / format.block;
  make_gradients(range, from, to);
  make_moved(range, from, to, nullptr);
  make_images(range, from, to);
  const f32x16 zero = all(0.0f);
  for (size_t row = 0; row < kTileRows; row += kLanes) {
    const Quadratic q = quadratic_of(range, from, to, row, nullptr);
    const f32x16 unit = load(range.block(range.r.scale, b) + row);
    float *scale_at = range.group(range.r.scales, g) + row, *effective = range.group(range.f.scales, g) + row;
    const f32x16 old_scale = load(scale_at), old_effective = load(effective);
    f32x16 scale = moved_integer(old_scale, unit, q.best_scale(), format.scale_low, format.scale_high);
    const f32x16 step = unit * scale - old_effective;
    if (!format.affine) {
      scale = choose(q.change(step, zero) < zero, scale, old_scale);
    } else {
      const f32x16 minimum_unit = load(range.block(range.r.minimum, b) + row);
      float *minimum_at = range.group(range.r.minima, g) + row,
            *subtracted = range.group(range.f.minima, g) + row;
      const f32x16 old_minimum = load(minimum_at), old_subtracted = load(subtracted);
      const f32x16 both =
          moved_integer(old_minimum, minimum_unit, q.best_minimum(step), 0, format.minima_high);
      const f32x16 alone =
          moved_integer(old_minimum, minimum_unit, q.best_minimum(zero), 0, format.minima_high);
      const f32x16 change_both = q.change(step, minimum_unit * both - old_subtracted);
      const f32x16 change_alone = q.change(zero, minimum_unit * alone - old_subtracted);
      const i32x16 take_both = (change_both < zero) & (change_both <= change_alone);
      scale = choose(take_both, scale, old_scale);
      const f32x16 minimum = choose(take_both, both, choose(change_alone < zero, alone, old_minimum));
      store(minimum_at, minimum);
      store(subtracted, minimum_unit * minimum);
    }
    store(scale_at, scale);
    store(effective, unit * scale);
  }
  make_errors(range, from, to);
}

// The fp16 scale (and minimum) of one block.
LOCALQ_INLINE void refine_block(const Range& range, size_t b) {
  const localq_format& format = range.format;
  const size_t from = b * format.block, to = from + format.block;
  make_gradients(range, from, to);
  make_moved(range, from, to, range.r.scales);
  make_images(range, from, to);
  const f32x16 zero = all(0.0f);
  for (size_t row = 0; row < kTileRows; row += kLanes) {
    const Quadratic q = quadratic_of(range, from, to, row, range.r.minima);
    float* scale_at = range.block(range.r.scale, b) + row;
    const f32x16 old_scale = load(scale_at);
    f32x16 scale = round_to_half(old_scale + q.best_scale());
    f32x16 minimum = zero;
    if (!format.affine) {
      scale = choose(q.change(scale - old_scale, zero) < zero, scale, old_scale);
    } else {
      float* minimum_at = range.block(range.r.minimum, b) + row;
      const f32x16 old_minimum = load(minimum_at);
      minimum = round_to_half(old_minimum + q.best_minimum(scale - old_scale));
      const i32x16 better = q.change(scale - old_scale, minimum - old_minimum) < zero;
      scale = choose(better, scale, old_scale);
      minimum = choose(better, minimum, old_minimum);
      store(minimum_at, minimum);
    }
    store(scale_at, scale);
    for (size_t g = from / format.group; g < to / format.group; ++g) {
      const f32x16 factor =
          range.r.scales != nullptr ? load(range.group(range.r.scales, g) + row) : all(1.0f);
      store(range.group(range.f.scales, g) + row, scale * factor);
      if (!format.affine) continue;
      const f32x16 its = range.r.minima != nullptr ? load(range.group(range.r.minima, g) + row) : all(1.0f);
      store(range.group(range.f.minima, g) + row, minimum * its);
    }
  }
  make_errors(range, from, to);
}

template <class Grid>
LOCALQ_INLINE void refine_range(const Range& range, const Grid& grid) {
  for (uint32_t pass = 0; pass < range.r.passes; ++pass) {
    refine_codes(range, grid);
    if (range.r.scales != nullptr) {
      for (size_t k = range.first; k < range.last; k += range.format.group)
        refine_group(range, k / range.format.group);
    }
    for (size_t k = range.first; k < range.last; k += range.format.block)
      refine_block(range, k / range.format.block);
  }
  refine_codes(range, grid);
}

LOCALQ_INLINE void feedback_refine(const localq_feedback* f, const localq_format* format,
                                   const localq_refinement* r, size_t first, size_t last,
                                   const float* outside, float* workspace) {
  Workspace& work = *reinterpret_cast<Workspace*>(workspace);
  for (size_t tile = 0; tile < f->tiles; ++tile) {
    const Range range = {*f,  *format, *r, first, last, tile, outside + tile * (last - first) * kTileRows,
                         work};
    if (tile == 0 && format->affine) make_between(range);
    if (are_consecutive(*format)) {
      refine_range(range, Integers(*format));
    } else {
      refine_range(range, Table(*format));
    }
  }
}

}  // namespace
