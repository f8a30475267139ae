// Q5_1: codes of 5 bits, a scale and a minimum for 32 weights. Codes as Q5_0's.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

using Q5_1Strip = StripFormat<Q5_1, Planes<Plane<4>, Plane<1, 4>>, NoGroups>;

}  // namespace
