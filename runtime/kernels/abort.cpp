#include "localq_kernels.h"

// Relaxed: the flag orders nothing else, it only has to be seen soon.
bool localq_abort_requested(void* flag) {
  return flag != nullptr && __atomic_load_n(static_cast<const int32_t*>(flag), __ATOMIC_RELAXED) != 0;
}
