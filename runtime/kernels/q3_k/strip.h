// Q3_K: codes of 3 bits around 4 in groups of 16, with scales of 6 bits around 32; a scale for 256 weights. Two lines
// of lower pairs of bits and one of third bits are two groups.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

using Q3KStrip = StripFormat<Q3K, Planes<Plane<2>, Plane<1, 2>>, SixBits<16, 32, false>>;

}  // namespace
