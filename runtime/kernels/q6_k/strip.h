// Q6_K: codes of 6 bits around 32 in groups of 16, with signed scales of 8 bits; a scale for 256 weights. A group is
// two lines of low nibbles and one of upper pairs of bits.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

using Q6KStrip = StripFormat<Q6K, Planes<Plane<4>, Plane<2, 4>>, ByteScales<16>>;

}  // namespace
