// Q2_0: codes of 2 bits around 1 and a scale for 64 weights. A line holds four codes.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

using Q2_0Strip = StripFormat<Q2_0, Planes<Plane<2>>, NoGroups>;

}  // namespace
