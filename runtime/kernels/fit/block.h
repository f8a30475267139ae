// Blocks of many groups, whose scales (and minima) are small integers times the block's fp16 ones.
//
// 1. Every group's own best grid (search.h), with the quadratic model of its error.
// 2. The block's scale and minimum that the models like best: of many, one in each stratum.
// 3. For those, every group's integers, by the true error of some around the model's.
// 4. The least-squares scale and minimum for all codes and integers, then 3 again; while it gains.
#pragma once

#include "search.h"

namespace {

constexpr size_t kGroupsMax = 16;
constexpr size_t kUnits = 16, kRefits = 2;

// The integers that a format has for its groups.
struct Range {
  f32x16 low, high, minimum_high;
  explicit Range(const localq_format& format)
      : low(all(static_cast<float>(format.scale_low))),
        high(all(static_cast<float>(format.scale_high))),
        minimum_high(all(static_cast<float>(format.minima_high))) {}
};

struct Integers {
  f32x16 scale[kGroupsMax], minimum[kGroupsMax];
};

struct Solution {
  Grid unit;  // fp16
  f32x16 error;
  Integers of;
};

LOCALQ_INLINE f32x16 nearest_integer(f32x16 value, f32x16 low, f32x16 high) {
  return round_to_even(smaller(larger(value, low), high));
}

// 0, -1, 1, -2, 2, ...: of equal integers the nearest is kept.
LOCALQ_INLINE float beside(int index) {
  return static_cast<float>(index % 2 != 0 ? -(index + 1) / 2 : index / 2);
}

// The minimum that suits a group once its scale was rounded.
LOCALQ_INLINE f32x16 suiting_minimum(const Fit& fit, const Group& group, f32x16 scale_off) {
  return fit.grid.minimum + (fit.l / group.weight) * scale_off;
}

// What the groups' models lose with a unit.
template <bool affine>
f32x16 predicted_loss(const Group* groups, const Fit* fits, size_t count, const Range& range,
                      const Grid& unit) {
  const f32x16 per_scale = inverse(unit.scale), per_minimum = inverse(unit.minimum);
  f32x16 loss = all(0.0f);
  for (size_t g = 0; g < count; ++g) {
    const Fit& fit = fits[g];
    const f32x16 off =
        unit.scale * nearest_integer(fit.grid.scale * per_scale, range.low, range.high) - fit.grid.scale;
    loss += (fit.ll * off) * off;
    if (affine) {
      const f32x16 wanted = suiting_minimum(fit, groups[g], off) * per_minimum;
      const f32x16 low =
          unit.minimum * nearest_integer(wanted, all(0.0f), range.minimum_high) - fit.grid.minimum;
      loss += low * (groups[g].weight * low - (fit.l * off) * all(2.0f));
    }
  }
  return loss;
}

// Every group's integers for solution.unit, and their error: `reach` around those that suit `fits` are tried.
template <bool affine, class Levels>
void assign(const Levels& levels, const Group* groups, const Fit* fits, size_t count, const Range& range,
            int reach, Solution& solution) {
  const Grid unit = solution.unit;
  const f32x16 per_scale = inverse(unit.scale), per_minimum = inverse(unit.minimum), zero = all(0.0f);
  solution.error = zero;
  for (size_t g = 0; g < count; ++g) {
    const f32x16 middle = nearest_integer(fits[g].grid.scale * per_scale, range.low, range.high);
    f32x16 least = all(__builtin_inff()), best_scale = zero, best_minimum = zero;
    for (int i = 0; i <= 2 * reach; ++i) {
      const f32x16 scale = smaller(larger(middle + all(beside(i)), range.low), range.high);
      const f32x16 off = unit.scale * scale - fits[g].grid.scale;
      const f32x16 wanted = affine ? suiting_minimum(fits[g], groups[g], off) * per_minimum : zero;
      const f32x16 centre = nearest_integer(wanted, zero, range.minimum_high);
      for (int k = 0; k < (affine ? 3 : 1); ++k) {
        const f32x16 minimum = smaller(larger(centre + all(beside(k)), zero), range.minimum_high);
        const f32x16 error =
            error_of<affine>(levels, groups[g], {unit.scale * scale, unit.minimum * minimum});
        const i32x16 better = error < least;
        least = choose(better, error, least);
        best_scale = choose(better, scale, best_scale);
        best_minimum = choose(better, minimum, best_minimum);
      }
    }
    solution.of.scale[g] = best_scale;
    solution.of.minimum[g] = best_minimum;
    solution.error += least;
  }
}

LOCALQ_INLINE void keep_better(Solution& best, const Solution& other, size_t count) {
  const i32x16 better = other.error < best.error;
  best.error = choose(better, other.error, best.error);
  best.unit.scale = choose(better, other.unit.scale, best.unit.scale);
  best.unit.minimum = choose(better, other.unit.minimum, best.unit.minimum);
  for (size_t g = 0; g < count; ++g) {
    best.of.scale[g] = choose(better, other.of.scale[g], best.of.scale[g]);
    best.of.minimum[g] = choose(better, other.of.minimum[g], best.of.minimum[g]);
  }
}

LOCALQ_INLINE Grid grid_of(const Solution& solution, size_t g) {
  return {solution.unit.scale * solution.of.scale[g], solution.unit.minimum * solution.of.minimum[g]};
}

// The least-squares unit for the codes and integers of a solution, in fp16.
template <bool affine, class Levels>
Grid refit_unit(const Levels& levels, const Group* groups, size_t count, const Solution& solution) {
  const f32x16 zero = all(0.0f);
  f32x16 a = zero, b = zero, c = zero, p = zero, q = zero;
  for (size_t g = 0; g < count; ++g) {
    const f32x16 scale = solution.of.scale[g], minimum = solution.of.minimum[g];
    const Moments sums = moments_of<affine>(levels, groups[g], grid_of(solution, g));
    a += (scale * scale) * sums.ll;
    p += scale * sums.rl;
    if (affine) {
      b += (scale * minimum) * sums.l;
      c += (minimum * minimum) * groups[g].weight;
      q += minimum * sums.r;
    }
  }
  const Grid unit = solution.unit;
  if (!affine) return {round_to_half(unit.scale + ratio(p, a)), zero};
  const Grid step = solve(a, b, c, p, q);
  return {round_to_half(unit.scale + step.scale), round_to_half(unit.minimum + step.minimum)};
}

// The part of the integers' range that the `index`-th candidate of step 2 makes the largest group use.
LOCALQ_INLINE float used(size_t index) {
  return 1.0f - 0.2f * static_cast<float>(index) / static_cast<float>(kUnits);
}

// Steps 2 to 4 for units of one sign; `fits` are the groups' best grids of that sign.
template <bool affine, class Levels>
void solve_block(const Levels& levels, const localq_format& format, const Group* groups, const Fit* fits,
                 size_t count, Solution& best) {
  const f32x16 zero = all(0.0f);
  const Range range(format);
  f32x16 scale_top = zero, minimum_top = zero;
  for (size_t g = 0; g < count; ++g) {
    const Grid& grid = fits[g].grid;
    scale_top = choose(magnitude(grid.scale) > magnitude(scale_top), grid.scale, scale_top);
    minimum_top = choose(magnitude(grid.minimum) > magnitude(minimum_top), grid.minimum, minimum_top);
  }
  const int reach = affine ? 1 : 1 + format.scale_high / 6;
  constexpr size_t strata = affine ? 4 : 2, each = kUnits / strata;
  for (size_t stratum = 0; stratum < strata; ++stratum) {
    f32x16 least = all(__builtin_inff());
    Solution found = {{zero, zero}, zero, {}};
    for (size_t k = stratum * each; k < (stratum + 1) * each; ++k) {
      const float top = (static_cast<float>(format.scale_high) + 0.4f) * used(k);
      for (size_t i = 0; i < (affine ? kUnits : 2); ++i) {
        Grid unit = {round_to_half_but_zero(scale_top * all(1.0f / top)), zero};
        if (affine) {
          const float highest = (static_cast<float>(format.minima_high) + 0.4f) * used(i);
          unit.minimum = round_to_half_but_zero(minimum_top * all(1.0f / highest));
        } else if (i == 1) {
          unit.scale = -unit.scale;  // the integers reach one further below 0
        }
        const f32x16 loss = predicted_loss<affine>(groups, fits, count, range, unit);
        const i32x16 better = loss < least;
        least = choose(better, loss, least);
        found.unit.scale = choose(better, unit.scale, found.unit.scale);
        found.unit.minimum = choose(better, unit.minimum, found.unit.minimum);
      }
    }
    assign<affine>(levels, groups, fits, count, range, reach, found);
    keep_better(best, found, count);
  }
  for (size_t k = 0; k < kRefits; ++k) {
    Fit around[kGroupsMax] = {};
    for (size_t g = 0; g < count; ++g) {
      around[g] = fits[g];
      around[g].grid = grid_of(best, g);
    }
    Solution next = {refit_unit<affine>(levels, groups, count, best), zero, {}};
    assign<affine>(levels, groups, around, count, range, 1, next);
    keep_better(best, next, count);
  }
}

// The group's best grid among those whose minimum has the sign of `sign` (or is 0), as its scale has.
template <class Levels>
Fit with_sign(const Levels& levels, const Group& group, const Fit& fit, float span, float sign) {
  const bool turned = sign < 0.0f;
  Fit own = fit;
  if (turned) {  // the same values, codes counted from the other end
    own.grid = {-fit.grid.scale, fit.grid.minimum - fit.grid.scale * all(span)};
    own.l = group.weight * all(span) - fit.l;
    own.ll = (group.weight * all(span) - fit.l * all(2.0f)) * all(span) + fit.ll;
  }
  f32x16 far = all(0.0f);
  for (size_t j = 0; j < group.count; ++j) far = larger(far, load(group.x + j * kLanes) * all(sign));
  Grid anchored = {far * all(sign / span), all(0.0f)};
  Fit edge = {anchored, all(0.0f), all(0.0f), all(0.0f)};
  for (int k = 0; k < 2; ++k) {
    const Moments sums = moments_of<true>(levels, group, edge.grid);
    const f32x16 step = ratio(sums.rl, sums.ll);
    edge = {{edge.grid.scale + step, all(0.0f)}, sums.error - step * sums.rl, sums.ll, sums.l};
  }
  const i32x16 outside = own.grid.minimum * all(sign) < all(0.0f);
  own.grid.scale = choose(outside, edge.grid.scale, own.grid.scale);
  own.grid.minimum = choose(outside, all(0.0f), own.grid.minimum);
  own.ll = choose(outside, edge.ll, own.ll);
  own.l = choose(outside, edge.l, own.l);
  return own;
}

template <bool affine, class Levels>
Solution fit_groups(const Levels& levels, const Plan& plan, const localq_format& format, const Group* groups,
                    size_t count) {
  Fit fits[kGroupsMax] = {}, turned[kGroupsMax] = {};
  for (size_t g = 0; g < count; ++g) {
    const Fit fit = affine ? search_grid(levels, plan, groups[g]) : search_scale(levels, plan, groups[g]);
    fits[g] = affine ? with_sign(levels, groups[g], fit, plan.span, 1.0f) : fit;
    if (affine) turned[g] = with_sign(levels, groups[g], fit, plan.span, -1.0f);
  }
  Solution best = {{all(0.0f), all(0.0f)}, all(__builtin_inff()), {}};
  solve_block<affine>(levels, format, groups, fits, count, best);
  if (affine) {
    Solution other = {{all(0.0f), all(0.0f)}, all(__builtin_inff()), {}};
    solve_block<affine>(levels, format, groups, turned, count, other);
    keep_better(best, other, count);
  }
  return best;
}

}  // namespace
