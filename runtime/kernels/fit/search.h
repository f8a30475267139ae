// The best grid of one group, as if its scale and minimum could be any numbers.
//
// Candidates all over the range in which the best may lie, the densest around it; each is moved to the
// least-squares grid of the codes that it gives, so the local optimum beside a candidate is seen too. Their
// numbers were measured: within 0.3 % of the least error of thousands, for normal, Laplace and Student t
// weights, and for outliers that matter little, which the best grid leaves outside.
#pragma once

#include "group.h"

namespace {

constexpr size_t kShapes = 7, kShifts = 7;  // affine: sizes and places of a grid that covers the weights
constexpr size_t kShort = 6, kPlaces = 5;   // affine: grids that leave outliers outside
constexpr size_t kAround = 5;               // affine: around the best, of either number
constexpr size_t kAgain = 2;                // the best once more
constexpr size_t kFewLevels = 4, kManyLevels = 64;  // with so few or many there is less to find

// Where to look, from the format's levels alone.
struct Plan {
  size_t wide, near, again;  // symmetric: candidates all over, beside the best of them, the best once more
  bool few;                  // levels
  bool mirrored;             // try scales of both signs
  float sign;                // of a scale that gives the largest weight the farthest level
  float first, widen;        // largest weight / scale: of the first candidate, and from each to the next
  float span;                // highest level - lowest
  float shape_step;          // from each size to the next, of 0.9 times the weights' range on
  float shift;               // the farthest place: grid's middle - weights' middle, in scales

  explicit Plan(const localq_format& format) {
    const uint32_t last = format.level_count - 1;
    const float low = format.levels[0], high = format.levels[last];
    const bool below = -low > high;
    const float size = below ? -low : high;
    const float end = below ? format.levels[1] - low : high - format.levels[last - 1];
    const bool many = format.level_count >= kManyLevels;
    few = format.level_count <= kFewLevels;
    wide = many ? 4 : few ? 8 : 16;
    near = many ? 4 : few ? 0 : 16;
    again = many ? 0 : kAgain;
    mirrored = !many && low != -high;
    sign = below ? -1.0f : 1.0f;
    first = size - end;
    if (first < 0.5f * size) first = 0.5f * size;
    widen = 1.0f + 32.0f * end / size;
    for (size_t count = wide; count > 1; count /= 2) widen = __builtin_sqrtf(widen);
    span = high - low;
    shape_step = (0.1f + 3.0f / span) / static_cast<float>(kShapes - 1);
    shift = 0.6f + 1.2f / span;
  }
};

// From -1 to 1 in `count` steps.
LOCALQ_INLINE float way(size_t step, size_t count) {
  return static_cast<float>(2 * step) / static_cast<float>(count - 1) - 1.0f;
}

template <class Levels>
Fit search_scale(const Levels& levels, const Plan& plan, const Group& group) {
  const f32x16 zero = all(0.0f);
  f32x16 largest = zero, error = zero;
  for (size_t j = 0; j < group.count; ++j) {
    const f32x16 x = load(group.x + j * kLanes);
    largest = choose(magnitude(x) > magnitude(largest), x, largest);
    error += (all(group.w[j]) * x) * x;
  }
  const f32x16 energy = error;
  Fit best = {{zero, zero}, energy, zero, zero};
  const auto try_scale = [&](f32x16 scale) {
    if (plan.few) {
      try_few_levels(best, levels, group, energy, scale);
    } else {
      try_grid<false>(best, levels, group, {scale, zero});
    }
  };
  float candidate = plan.first;
  for (size_t k = 0; k < plan.wide; ++k) {
    const f32x16 scale = largest * all(plan.sign / candidate);
    try_scale(scale);
    if (plan.mirrored) try_scale(-scale);
    candidate *= plan.widen;
  }
  const f32x16 middle = best.grid.scale;
  for (size_t k = 0; k < plan.near; ++k) {
    const float part = 1.0f + (plan.widen - 1.0f) * way(k, plan.near);
    try_scale(middle * all(part));
  }
  for (size_t k = 0; k < plan.again; ++k) try_scale(best.grid.scale);
  return best;
}

template <class Levels>
Fit search_grid(const Levels& levels, const Plan& plan, const Group& group) {
  f32x16 low = load(group.x), high = low, error = all(0.0f);
  for (size_t j = 0; j < group.count; ++j) {
    const f32x16 x = load(group.x + j * kLanes);
    low = smaller(low, x);
    high = larger(high, x);
    error += (all(group.w[j]) * x) * x;
  }
  Fit best = {{all(0.0f), all(0.0f)}, error, all(0.0f), all(0.0f)};
  const f32x16 range = high - low, middle = (low + high) * all(0.5f);
  float shape = 1.4f;
  for (size_t k = 0; k < kShort; ++k) {
    const f32x16 scale = range * all(1.0f / (plan.span * shape));
    const f32x16 outside = range - scale * all(plan.span);
    for (size_t i = 0; i < kPlaces; ++i) {
      const float place = static_cast<float>(i) / static_cast<float>(kPlaces - 1);
      try_grid<true>(best, levels, group, {scale, -(low + outside * all(place))});
    }
    shape *= 1.35f;
  }
  for (size_t k = 0; k < kShapes; ++k) {
    const f32x16 scale = range * all(1.0f / (plan.span * (0.9f + static_cast<float>(k) * plan.shape_step)));
    for (size_t i = 0; i < kShifts; ++i) {
      const float centre = 0.5f * plan.span + plan.shift * way(i, kShifts);
      try_grid<true>(best, levels, group, {scale, scale * all(centre) - middle});
    }
  }
  const Grid around = best.grid;
  for (size_t k = 0; k < kAround; ++k) {
    const float grown = 0.1f * way(k, kAround);
    const f32x16 scale = around.scale * all(1.0f + grown);
    for (size_t i = 0; i < kAround; ++i) {
      const float moved = 0.5f * plan.span * grown + 0.5f * way(i, kAround);
      try_grid<true>(best, levels, group, {scale, around.minimum + around.scale * all(moved)});
    }
  }
  for (size_t k = 0; k < kAgain; ++k) try_grid<true>(best, levels, group, best.grid);
  return best;
}

}  // namespace
