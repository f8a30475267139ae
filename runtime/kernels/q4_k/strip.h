// Q4_K: codes of 4 bits in groups of 32, with scales and minima of 6 bits; a scale and a minimum for 256 weights.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

using Q4KStrip = StripFormat<Q4K, Planes<Plane<4>>, SixBits<8, 0, true>>;

}  // namespace
