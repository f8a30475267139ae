// Q5_0: codes of 5 bits around 16 and a scale for 32 weights. Four lines of low nibbles, one of fifth bits.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

using Q5_0Strip = StripFormat<Q5_0, Planes<Plane<4>, Plane<1, 4>>, NoGroups>;

}  // namespace
