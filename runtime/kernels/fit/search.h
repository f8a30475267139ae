// The best grid of one group, as if its scale and minimum could be any numbers.
//
// Candidates all over the range that may be best, each moved to the least-squares grid of its own codes; so the
// error of every local optimum near a candidate is seen. How dense they must be was measured: within 0.3 % of
// the least error of thousands of candidates, for normal, Laplace and Student t weights.
#pragma once

#include "group.h"

namespace {

constexpr size_t kWide = 16, kNear = 8, kAgain = 2;
constexpr size_t kReaches = 11, kShifts = 11;

// Where to look, from the format's levels alone.
struct Plan {
  bool mirrored;           // levels are not symmetric: scales of both signs
  float first, widen;      // largest weight / scale: of the first candidate, and from each to the next
  float span;              // affine: highest level - lowest
  float reach, reach_step; // affine: range of the weights / (span * scale)
  float shift, shift_step; // affine: of the grid's middle against the weights' middle, in scales

  explicit Plan(const localq_format& format) {
    const uint32_t last = format.level_count - 1;
    const float low = format.levels[0], high = format.levels[last];
    const float size = -low > high ? -low : high;
    const float end = -low > high ? format.levels[1] - low : high - format.levels[last - 1];
    mirrored = low != -high;
    first = size - 0.8f * end;
    if (first > 0.98f * size) first = 0.98f * size;
    if (first < 0.5f * size) first = 0.5f * size;
    widen = 1.0f + 16.0f * end / size;
    for (size_t width = kWide; width > 1; width /= 2) widen = __builtin_sqrtf(widen);
    span = high - low;
    reach = 0.9f;
    reach_step = (0.1f + 3.0f / span) / static_cast<float>(kReaches - 1);
    shift = 0.6f + 1.2f / span;
    shift_step = 2.0f * shift / static_cast<float>(kShifts - 1);
  }
};

template <class Levels>
Fit search_scale(const Levels& levels, const Plan& plan, const Group& group) {
  const f32x16 zero = all(0.0f);
  f32x16 size = zero, error = zero;
  for (size_t j = 0; j < group.count; ++j) {
    const f32x16 x = load(group.x + j * kLanes);
    size = larger(size, magnitude(x));
    error += (all(group.w[j]) * x) * x;
  }
  Fit best = {{zero, zero}, error, zero, zero};
  float candidate = plan.first;
  for (size_t k = 0; k < kWide; ++k, candidate *= plan.widen) {
    const Grid at = {size * all(1.0f / candidate), zero};
    try_grid<false>(best, levels, group, at);
    if (plan.mirrored) try_grid<false>(best, levels, group, {-at.scale, zero});
  }
  const f32x16 middle = best.grid.scale;
  const float width = plan.widen - 1.0f;
  for (size_t k = 0; k < kNear; ++k) {
    const float way = static_cast<float>(2 * k) / static_cast<float>(kNear - 1) - 1.0f;
    try_grid<false>(best, levels, group, {middle * all(1.0f + width * way), zero});
  }
  for (size_t k = 0; k < kAgain; ++k) try_grid<false>(best, levels, group, best.grid);
  return best;
}

template <class Levels>
Fit search_grid(const Levels& levels, const Plan& plan, const Group& group) {
  const f32x16 zero = all(0.0f);
  f32x16 low = load(group.x), high = low, error = zero;
  for (size_t j = 0; j < group.count; ++j) {
    const f32x16 x = load(group.x + j * kLanes);
    low = smaller(low, x);
    high = larger(high, x);
    error += (all(group.w[j]) * x) * x;
  }
  Fit best = {{zero, zero}, error, zero, zero};
  const f32x16 widest = (high - low) * all(1.0f / plan.span), middle = (low + high) * all(0.5f);
  for (size_t k = 0; k < kReaches; ++k) {
    const float reach = plan.reach + static_cast<float>(k) * plan.reach_step;
    const f32x16 scale = widest * all(1.0f / reach);
    for (size_t i = 0; i < kShifts; ++i) {
      const float shift = static_cast<float>(i) * plan.shift_step - plan.shift;
      try_grid<true>(best, levels, group, {scale, scale * all(0.5f * plan.span + shift) - middle});
    }
  }
  for (size_t k = 0; k < kAgain; ++k) try_grid<true>(best, levels, group, best.grid);
  return best;
}

}  // namespace
