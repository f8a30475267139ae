// Q5_K: Q4_K with a fifth bit. Four lines of low nibbles, one of fifth bits.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

using Q5KStrip = StripFormat<Q5K, Planes<Plane<4>, Plane<1, 4>>, SixBits<8, 0, true>>;

}  // namespace
