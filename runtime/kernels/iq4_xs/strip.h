// IQ4_XS: IQ4_NL's codes in groups of 32, with scales of 6 bits around 32 and a scale for 256 weights.
#pragma once

#include "matmul/groups.h"
#include "matmul/look_up.h"

namespace {

using Iq4XsStrip = StripFormat<Iq4Xs, LookedUp<Planes<Plane<4>>, kTableIq4>, SixBits<8, 32, false>>;

}  // namespace
