// IQ4_NL: codes of 4 bits into a table of 16 levels, and a scale for 32 weights. Codes as Q4_0's, then one shuffle.
#pragma once

#include "matmul/groups.h"
#include "matmul/look_up.h"

namespace {

using Iq4NlStrip = StripFormat<Iq4Nl, LookedUp<Planes<Plane<4>>, kTableIq4>, NoGroups>;

}  // namespace
