#include "kernels.h"

#include "lt/input.h"
#include "lt/product.h"

localq_multiply* localq::lt_multiply_of_avx2(uint32_t bits, uint32_t state_bits) {
  return find_lt_product(bits, state_bits);
}

void localq::lt_transform_input_avx2(const localq_lt_input* transform, const float* values, size_t depth,
                                       uint8_t* input, float* workspace) {
  lt_transform(transform, values, depth, input, workspace);
}
