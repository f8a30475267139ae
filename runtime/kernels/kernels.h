// Every kernel of every instruction set, for the dispatch table alone. Contracts: localq_kernels.h.
// No inline functions here or in what it includes: no kernel's file may emit shared code above the ABI floor.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "localq_kernels.h"

// The attribute that raises one function above the floor. Everything it calls needs the same one.
#define LOCALQ_TARGET(features) __attribute__((target(features)))
#define LOCALQ_TARGET_AVX2 LOCALQ_TARGET("avx2")
#define LOCALQ_TARGET_AVX_VNNI LOCALQ_TARGET("avx2,avxvnni")
#define LOCALQ_TARGET_AVX512VNNI LOCALQ_TARGET("avx512f,avx512bw,avx512vl,avx512vnni")
#define LOCALQ_TARGET_NEON_DOTPROD LOCALQ_TARGET("arch=armv8.2-a+dotprod")

namespace localq {

int64_t dot_i8_scalar(const int8_t* a, const int8_t* b, size_t length);
int64_t dot_i8_avx2(const int8_t* a, const int8_t* b, size_t length);
int64_t dot_i8_avx_vnni(const int8_t* a, const int8_t* b, size_t length);
int64_t dot_i8_avx512vnni(const int8_t* a, const int8_t* b, size_t length);
int64_t dot_i8_neon_dotprod(const int8_t* a, const int8_t* b, size_t length);

int64_t argmax_f32_scalar(const float* values, size_t length);
int64_t argmax_f32_avx2(const float* values, size_t length);
int64_t argmax_f32_avx512vnni(const float* values, size_t length);
int64_t argmax_f32_neon_dotprod(const float* values, size_t length);

uint64_t read_stream_scalar(const void* data, size_t bytes);
uint64_t read_stream_avx2(const void* data, size_t bytes);
uint64_t read_stream_avx512vnni(const void* data, size_t bytes);
uint64_t read_stream_neon_dotprod(const void* data, size_t bytes);

#define LOCALQ_GRAM_F32                                                                                          \
  (const float* x, size_t tokens, size_t stride, size_t blocks, size_t size, float sign, float* g, size_t g_stride, \
   size_t part, size_t parts, float* workspace)
void gram_f32_scalar LOCALQ_GRAM_F32;
void gram_f32_avx2 LOCALQ_GRAM_F32;
void gram_f32_avx512vnni LOCALQ_GRAM_F32;
void gram_f32_neon_dotprod LOCALQ_GRAM_F32;

#define LOCALQ_CHOLESKY_STEP_F32 \
  (float* h, size_t n, size_t first, size_t last, double least, float* workspace)
int64_t cholesky_step_f32_scalar LOCALQ_CHOLESKY_STEP_F32;
int64_t cholesky_step_f32_avx2 LOCALQ_CHOLESKY_STEP_F32;
int64_t cholesky_step_f32_avx512vnni LOCALQ_CHOLESKY_STEP_F32;
int64_t cholesky_step_f32_neon_dotprod LOCALQ_CHOLESKY_STEP_F32;

#define LOCALQ_FEEDBACK_TARGETS_F32                                                                     \
  (const localq_feedback* feedback, size_t first, size_t last, size_t from, size_t to, uint32_t start, \
   float* targets)
void feedback_targets_f32_scalar LOCALQ_FEEDBACK_TARGETS_F32;
void feedback_targets_f32_avx2 LOCALQ_FEEDBACK_TARGETS_F32;
void feedback_targets_f32_avx512vnni LOCALQ_FEEDBACK_TARGETS_F32;
void feedback_targets_f32_neon_dotprod LOCALQ_FEEDBACK_TARGETS_F32;

#define LOCALQ_FEEDBACK_ROUND_F32 \
  (const localq_feedback* feedback, const localq_format* format, size_t first, size_t last, float* targets)
void feedback_round_f32_scalar LOCALQ_FEEDBACK_ROUND_F32;
void feedback_round_f32_avx2 LOCALQ_FEEDBACK_ROUND_F32;
void feedback_round_f32_avx512vnni LOCALQ_FEEDBACK_ROUND_F32;
void feedback_round_f32_neon_dotprod LOCALQ_FEEDBACK_ROUND_F32;

#define LOCALQ_FEEDBACK_REFINE_F32                                                                         \
  (const localq_feedback* feedback, const localq_format* format, const localq_refinement* refinement,     \
   size_t first, size_t last, const float* outside, float* workspace)
void feedback_refine_f32_scalar LOCALQ_FEEDBACK_REFINE_F32;
void feedback_refine_f32_avx2 LOCALQ_FEEDBACK_REFINE_F32;
void feedback_refine_f32_avx512vnni LOCALQ_FEEDBACK_REFINE_F32;
void feedback_refine_f32_neon_dotprod LOCALQ_FEEDBACK_REFINE_F32;

#define LOCALQ_TRELLIS_ROUND_F32                                                                              \
  (const localq_feedback* feedback, const localq_trellis* trellis, size_t first, size_t last, float* targets, \
   float* workspace)
void trellis_round_f32_scalar LOCALQ_TRELLIS_ROUND_F32;
void trellis_round_f32_avx2 LOCALQ_TRELLIS_ROUND_F32;
void trellis_round_f32_avx512vnni LOCALQ_TRELLIS_ROUND_F32;
void trellis_round_f32_neon_dotprod LOCALQ_TRELLIS_ROUND_F32;

#define LOCALQ_FIT_F32                                                                                       \
  (const localq_format* format, const float* weights, size_t rows, size_t columns, const float* importance, \
   const localq_blocks* blocks)
void fit_f32_scalar LOCALQ_FIT_F32;
void fit_f32_avx2 LOCALQ_FIT_F32;
void fit_f32_avx512vnni LOCALQ_FIT_F32;
void fit_f32_neon_dotprod LOCALQ_FIT_F32;

localq_multiply* multiply_of_scalar(uint32_t ggml_type);
localq_multiply* multiply_of_avx2(uint32_t ggml_type);
localq_multiply* multiply_of_avx_vnni(uint32_t ggml_type);
localq_multiply* multiply_of_avx512vnni(uint32_t ggml_type);
localq_multiply* multiply_of_neon_dotprod(uint32_t ggml_type);
localq_multiply* multiply_of_neon_i8mm(uint32_t ggml_type);

#define LOCALQ_QUANTIZE_INPUT (const float* values, size_t depth, size_t block, uint8_t* input)
void quantize_input_scalar LOCALQ_QUANTIZE_INPUT;
void quantize_input_avx2 LOCALQ_QUANTIZE_INPUT;
void quantize_input_avx_vnni LOCALQ_QUANTIZE_INPUT;
void quantize_input_avx512vnni LOCALQ_QUANTIZE_INPUT;
void quantize_input_neon_dotprod LOCALQ_QUANTIZE_INPUT;
void quantize_input_neon_i8mm LOCALQ_QUANTIZE_INPUT;

#define LOCALQ_QUANTIZE_INPUT_STATIC                                                                          \
  (const float* values, const float* scales, const float* inverses, size_t depth, size_t block, uint8_t* input)
void quantize_input_static_scalar LOCALQ_QUANTIZE_INPUT_STATIC;
void quantize_input_static_avx2 LOCALQ_QUANTIZE_INPUT_STATIC;
void quantize_input_static_avx_vnni LOCALQ_QUANTIZE_INPUT_STATIC;
void quantize_input_static_avx512vnni LOCALQ_QUANTIZE_INPUT_STATIC;
void quantize_input_static_neon_dotprod LOCALQ_QUANTIZE_INPUT_STATIC;
void quantize_input_static_neon_i8mm LOCALQ_QUANTIZE_INPUT_STATIC;

localq_multiply* lt_multiply_of_scalar(uint32_t bits, uint32_t state_bits);
localq_multiply* lt_multiply_of_avx2(uint32_t bits, uint32_t state_bits);
localq_multiply* lt_multiply_of_avx_vnni(uint32_t bits, uint32_t state_bits);
localq_multiply* lt_multiply_of_avx512vnni(uint32_t bits, uint32_t state_bits);
localq_multiply* lt_multiply_of_avx512vbmi(uint32_t bits, uint32_t state_bits);
localq_multiply* lt_multiply_of_neon_dotprod(uint32_t bits, uint32_t state_bits);

#define LOCALQ_LT_TRANSFORM_INPUT                                                                            \
  (const localq_lt_input* transform, const float* values, size_t depth, uint8_t* input, float* workspace)
void lt_transform_input_scalar LOCALQ_LT_TRANSFORM_INPUT;
void lt_transform_input_avx2 LOCALQ_LT_TRANSFORM_INPUT;
void lt_transform_input_avx_vnni LOCALQ_LT_TRANSFORM_INPUT;
void lt_transform_input_avx512vnni LOCALQ_LT_TRANSFORM_INPUT;
void lt_transform_input_avx512vbmi LOCALQ_LT_TRANSFORM_INPUT;
void lt_transform_input_neon_dotprod LOCALQ_LT_TRANSFORM_INPUT;

}  // namespace localq
