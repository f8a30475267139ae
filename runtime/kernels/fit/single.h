// Blocks of one group: its scale (and minimum) are stored as fp16.
#pragma once

#include "search.h"

namespace {

// The fp16 grid around `fit` with the least error.
template <bool affine, class Levels>
Grid settle(const Levels& levels, const Group& group, const Fit& fit) {
  Grid best = {round_to_half_but_zero(fit.grid.scale), round_to_half(fit.grid.minimum)};
  f32x16 error = error_of<affine>(levels, group, best);
  const Grid middle = best;
  for (int i = -1; i <= 1; ++i) {
    for (int k = -1; k <= 1; ++k) {
      if ((!affine && k != 0) || (i == 0 && k == 0)) continue;
      const Grid other = {move_half(middle.scale, static_cast<float>(i)),
                          move_half(middle.minimum, static_cast<float>(k))};
      const f32x16 its = error_of<affine>(levels, group, other);
      const i32x16 better = its < error;
      best.scale = choose(better, other.scale, best.scale);
      best.minimum = choose(better, other.minimum, best.minimum);
      error = choose(better, its, error);
    }
  }
  return best;
}

}  // namespace
