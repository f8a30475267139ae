// Q4_0: codes of 4 bits around 8 and a scale for 32 weights. A line holds two codes: and; shift, and.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

using Q4_0Strip = StripFormat<Q4_0, Planes<Plane<4>>, NoGroups>;

}  // namespace
