// Q4_1: codes of 4 bits, a scale and a minimum for 32 weights. Codes as Q4_0's.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

using Q4_1Strip = StripFormat<Q4_1, Planes<Plane<4>>, NoGroups>;

}  // namespace
