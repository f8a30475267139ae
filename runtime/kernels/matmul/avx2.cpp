#include "kernels.h"

#include "matmul/matmul.h"

localq_multiply* localq::multiply_of_avx2(uint32_t ggml_type) { return find_product(ggml_type); }

void localq::quantize_input_avx2(const float* values, size_t depth, size_t block, uint8_t* input) {
  quantize(values, depth, block, input);
}

void localq::quantize_input_static_avx2(const float* values, const float* scales, const float* inverses,
                                        size_t depth, size_t block, uint8_t* input) {
  quantize_static(values, scales, inverses, depth, block, input);
}
