// The code and the level nearest to a weight that was divided by its scale.
#pragma once

#include "lanes.h"
#include "localq_kernels.h"

namespace {

struct Rounded {
  f32x16 level, code;
};

// Consecutive integers; of two as near the even one.
struct Integers {
  f32x16 low, high;
  explicit Integers(const localq_format& format)
      : low(all(format.levels[0])), high(all(format.levels[format.level_count - 1])) {}
  inline __attribute__((always_inline)) Rounded nearest(f32x16 value) const {
    const f32x16 level = round_to_even(smaller(larger(value, low), high));
    return {level, level - low};
  }
};

// Any integers, ascending; of two as near the lower one.
struct Table {
  uint32_t steps;
  f32x16 middle[255], step[255], first;
  explicit Table(const localq_format& format) : steps(format.level_count - 1), first(all(format.levels[0])) {
    for (uint32_t k = 0; k < steps; ++k) {
      middle[k] = all(0.5f * (format.levels[k] + format.levels[k + 1]));
      step[k] = all(format.levels[k + 1] - format.levels[k]);
    }
  }
  inline __attribute__((always_inline)) Rounded nearest(f32x16 value) const {
    Rounded rounded = {first, all(0.0f)};
    for (uint32_t k = 0; k < steps; ++k) {
      const i32x16 above = value > middle[k];
      rounded.level += choose(above, step[k], all(0.0f));
      rounded.code += choose(above, all(1.0f), all(0.0f));
    }
    return rounded;
  }
};

}  // namespace
