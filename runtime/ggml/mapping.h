// Pages of a model file that is mapped into this process.
#pragma once

#include <stdint.h>

namespace localq::hook {

// Takes the pages before `end` out of this process, as far back as a large folio may have brought them in again. They
// come back where they are read. Does nothing where `end` is in no file that is mapped for reading only.
void let_go(const uint8_t* end);

}  // namespace localq::hook
