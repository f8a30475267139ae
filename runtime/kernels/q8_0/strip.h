// Q8_0: signed bytes and a scale for 32 weights. A line holds a code of 8 bits, the byte plus 128.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"

namespace {

using Q8_0Strip = StripFormat<Q8_0, Planes<Plane<8>>, NoGroups>;

}  // namespace
