// Sizes of LT matrices, their inputs and workspaces: contracts in localq_kernels.h.
#include "localq_kernels.h"
#include "lt/layout.h"

size_t localq_lt_strip_bytes(uint32_t bits, size_t depth) { return lt_strip_bytes(bits, depth); }

size_t localq_lt_input_bytes(size_t depth) { return lt_input_bytes(depth); }

size_t localq_lt_workspace_bytes(size_t depth, size_t columns) {
  constexpr size_t column_bytes = 4 * sizeof(void*);  // as product.h keeps them
  const size_t unfolded = columns >= 16 ? depth * kLtRows : 0;
  const size_t product = (columns * column_bytes + 63) / 64 * 64 + unfolded, transform = depth * sizeof(float);
  return product > transform ? product : transform;
}
