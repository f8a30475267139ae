// Q1_0: signs, a bit each, and a scale for 128 weights: level = 2 * bit - 1. A line holds eight bits.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

using Q1_0Strip = StripFormat<Q1_0, Planes<Plane<1>>, NoGroups>;

}  // namespace
