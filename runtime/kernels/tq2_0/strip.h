// TQ2_0: ternary codes of 2 bits around 1 and a scale for 256 weights. A line holds four codes.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

using Tq2_0Strip = StripFormat<Tq2_0, Planes<Plane<2>>, NoGroups>;

}  // namespace
