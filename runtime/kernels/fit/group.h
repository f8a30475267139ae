// What one grid leaves of a group of weights, and the least-squares grid for the codes it gave them.
#pragma once

#include "half.h"
#include "lanes.h"
#include "levels.h"

namespace {

// Weights of a group, one row a lane: `x` has kLanes floats an element, `w` its importance.
struct Group {
  const float* x;
  const float* w;
  size_t count;
  f32x16 weight;  // sum of w
};

// A weight is scale * level - minimum.
struct Grid {
  f32x16 scale, minimum;
};

// Sums over a group for one grid; r is what is left of a weight, l its level.
struct Moments {
  f32x16 error;   // w r r
  f32x16 rl, ll;  // w r l, w l l
  f32x16 r, l;    // w r, w l: of affine grids only
};

// A grid and its error; while no code changes, the error grows with ll, l and the group's weight.
struct Fit {
  Grid grid;
  f32x16 error;
  f32x16 ll, l;
};

LOCALQ_INLINE f32x16 inverse(f32x16 scale) {
  return choose(magnitude(scale) < all(1e-30f), all(0.0f), all(1.0f) / scale);
}

// a / b where b is above 0, else 0.
LOCALQ_INLINE f32x16 ratio(f32x16 a, f32x16 b) {
  const i32x16 positive = b > all(0.0f);
  return choose(positive, a / choose(positive, b, all(1.0f)), all(0.0f));
}

template <bool affine, class Levels>
LOCALQ_INLINE Moments moments_of(const Levels& levels, const Group& group, const Grid& grid) {
  const f32x16 inv = inverse(grid.scale);
  const f32x16 zero = all(0.0f);
  Moments sums = {zero, zero, zero, zero, zero};
  for (size_t j = 0; j < group.count; ++j) {
    f32x16 x = load(group.x + j * kLanes);
    if (affine) x += grid.minimum;
    const f32x16 w = all(group.w[j]);
    const f32x16 level = levels.nearest(x * inv);
    const f32x16 rest = x - grid.scale * level;
    const f32x16 wr = w * rest, wl = w * level;
    sums.error += wr * rest;
    sums.rl += wr * level;
    sums.ll += wl * level;
    if (affine) {
      sums.r += wr;
      sums.l += wl;
    }
  }
  return sums;
}

template <bool affine, class Levels>
LOCALQ_INLINE f32x16 error_of(const Levels& levels, const Group& group, const Grid& grid) {
  const f32x16 inv = inverse(grid.scale);
  f32x16 error = all(0.0f);
  for (size_t j = 0; j < group.count; ++j) {
    f32x16 x = load(group.x + j * kLanes);
    if (affine) x += grid.minimum;
    const f32x16 rest = x - grid.scale * levels.nearest(x * inv);
    error += (all(group.w[j]) * rest) * rest;
  }
  return error;
}

// Solves [a -b; -b c] [x; y] = [p; -q], the normal equations of a scale and a minimum: the way to the best.
LOCALQ_INLINE Grid solve(f32x16 a, f32x16 b, f32x16 c, f32x16 p, f32x16 q) {
  const f32x16 both = a * c;
  const f32x16 determinant = both - b * b;
  const i32x16 regular = determinant > both * all(1e-5f);
  const f32x16 over = all(1.0f) / choose(regular, determinant, all(1.0f));
  return {choose(regular, (c * p - b * q) * over, ratio(p, a)),
          choose(regular, (b * p - a * q) * over, all(0.0f))};
}

// The least-squares grid for the codes that `at` gives, and what the error would be with them.
template <bool affine>
LOCALQ_INLINE Fit refit(const Moments& sums, const Group& group, const Grid& at) {
  if (!affine) {
    const f32x16 step = ratio(sums.rl, sums.ll);
    return {{at.scale + step, at.minimum}, sums.error - step * sums.rl, sums.ll, sums.l};
  }
  const Grid step = solve(sums.ll, sums.l, group.weight, sums.rl, sums.r);
  const f32x16 gain = step.scale * sums.rl - step.minimum * sums.r;
  return {{at.scale + step.scale, at.minimum + step.minimum}, sums.error - gain, sums.ll, sums.l};
}

LOCALQ_INLINE void keep_better(Fit& best, const Fit& other) {
  const i32x16 better = other.error < best.error;
  best.grid.scale = choose(better, other.grid.scale, best.grid.scale);
  best.grid.minimum = choose(better, other.grid.minimum, best.grid.minimum);
  best.error = choose(better, other.error, best.error);
  best.ll = choose(better, other.ll, best.ll);
  best.l = choose(better, other.l, best.l);
}

template <bool affine, class Levels>
LOCALQ_INLINE void try_grid(Fit& best, const Levels& levels, const Group& group, const Grid& at) {
  keep_better(best, refit<affine>(moments_of<affine>(levels, group, at), group, at));
}

// As try_grid, of a symmetric grid of few levels: the least error of its codes is energy - (w x l)^2 / (w l l). Of
// many levels this difference of near equals would be noise.
template <class Levels>
LOCALQ_INLINE void try_few_levels(Fit& best, const Levels& levels, const Group& group, f32x16 energy,
                                  f32x16 at) {
  const f32x16 inv = inverse(at);
  f32x16 xl = all(0.0f), ll = all(0.0f);
  for (size_t j = 0; j < group.count; ++j) {
    const f32x16 x = load(group.x + j * kLanes);
    const f32x16 level = levels.nearest(x * inv);
    const f32x16 wl = all(group.w[j]) * level;
    xl += wl * x;
    ll += wl * level;
  }
  const f32x16 scale = ratio(xl, ll);
  keep_better(best, {{scale, all(0.0f)}, energy - scale * xl, ll, all(0.0f)});
}

}  // namespace
