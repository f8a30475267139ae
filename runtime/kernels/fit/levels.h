// The level nearest to a weight that was divided by its scale.
#pragma once

#include "lanes.h"
#include "localq_kernels.h"

#define LOCALQ_MEMBER inline __attribute__((always_inline))

namespace {

// Consecutive integers.
struct Uniform {
  f32x16 low, high;
  explicit Uniform(const localq_format& format)
      : low(all(format.levels[0])), high(all(format.levels[format.level_count - 1])) {}
  LOCALQ_MEMBER f32x16 nearest(f32x16 value) const {
    return round_to_even(smaller(larger(value, low), high));
  }
  LOCALQ_MEMBER f32x16 code(f32x16 value) const { return nearest(value) - low; }
};

// Any ascending integers: the sum of the steps whose middle lies below the value.
struct Table {
  uint32_t steps;
  float first;
  float middle[255], step[255];
  explicit Table(const localq_format& format) : steps(format.level_count - 1), first(format.levels[0]) {
    for (uint32_t k = 0; k < steps; ++k) {
      middle[k] = 0.5f * (format.levels[k] + format.levels[k + 1]);
      step[k] = format.levels[k + 1] - format.levels[k];
    }
  }
  LOCALQ_MEMBER f32x16 nearest(f32x16 value) const {
    f32x16 level = all(first);
    for (uint32_t k = 0; k < steps; ++k) level += choose(value > all(middle[k]), all(step[k]), all(0.0f));
    return level;
  }
  LOCALQ_MEMBER f32x16 code(f32x16 value) const {
    f32x16 code = all(0.0f);
    for (uint32_t k = 0; k < steps; ++k) code += choose(value > all(middle[k]), all(1.0f), all(0.0f));
    return code;
  }
};

}  // namespace
