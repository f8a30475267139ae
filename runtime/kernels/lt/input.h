// Inputs of products with LT matrices: y = H(sign * x) / sqrt(block) for each block of the columns, H being Sylvester's
// Hadamard matrix, then z[c] = y[order[c]] as bytes. The transform is Fino and Algazi's fast one (1976): pairs at
// distances 1, 2, 4, ..., each sum and difference rounded once, so that all instruction sets give the same bits.
#pragma once

#include "localq_kernels.h"
#include "lt/layout.h"
#include "matmul/input.h"

namespace {

constexpr size_t kLtMostBlock = 128;

// Lane i gets lane i ^ distance.
template <size_t distance>
LOCALQ_INLINE f32part partners(f32part value) {
  i32part lanes;
  for (size_t i = 0; i < kPartLanes; ++i) lanes[i] = static_cast<int32_t>(i ^ distance);
  return __builtin_shuffle(value, lanes);
}

// Sums in lanes whose bit `distance` is 0, differences in the others.
template <size_t distance>
LOCALQ_INLINE f32part add_partners(f32part value) {
  i32part turned;
  for (size_t i = 0; i < kPartLanes; ++i) turned[i] = i & distance ? INT32_MIN : 0;
  return partners<distance>(value) + reinterpret_cast<f32part>(reinterpret_cast<i32part>(value) ^ turned);
}

template <size_t distance, size_t parts>
LOCALQ_INLINE void add_pairs(f32part (&value)[parts]) {
  if constexpr (distance < kPartLanes) {
#pragma GCC unroll 32
    for (size_t p = 0; p < parts; ++p) value[p] = add_partners<distance>(value[p]);
  } else {
    constexpr size_t apart = distance / kPartLanes;
#pragma GCC unroll 32
    for (size_t p = 0; p < parts; ++p) {
      if (p & apart) continue;
      const f32part a = value[p], b = value[p + apart];
      value[p] = a + b;
      value[p + apart] = a - b;
    }
  }
  if constexpr (2 * distance < parts * kPartLanes) add_pairs<2 * distance>(value);
}

// Signs are bits, 1 for minus.
LOCALQ_INLINE f32part with_signs(f32part value, const uint8_t* signs, size_t first) {
  i32part bits;
  if constexpr (kPartLanes == 4) {
    bits = i32part{} + (signs[first / 8] >> (first % 8));
  } else if constexpr (kPartLanes == 8) {
    bits = i32part{} + signs[first / 8];
  } else {
    bits = i32part{} + (signs[first / 8] | signs[first / 8 + 1] << 8);
  }
  i32part lane;
  for (size_t i = 0; i < kPartLanes; ++i) lane[i] = static_cast<int32_t>(31 - i);
  return reinterpret_cast<f32part>(reinterpret_cast<i32part>(value) ^ ((bits << lane) & INT32_MIN));
}

template <size_t block>
LOCALQ_INLINE void transform_block(const float* values, const uint8_t* signs, float* to) {
  constexpr float factor = block == 128 ? 0x1.6a09e6p-4f : 0.125f;
  f32part value[block / kPartLanes];
#pragma GCC unroll 32
  for (size_t p = 0; p < block / kPartLanes; ++p) {
    value[p] = with_signs(load_part(values + p * kPartLanes), signs, p * kPartLanes);
  }
  add_pairs<1>(value);
#pragma GCC unroll 32
  for (size_t p = 0; p < block / kPartLanes; ++p) store_part(to + p * kPartLanes, value[p] * factor);
}

// What follows the transform: `transformed` [depth], gathered and made bytes.
LOCALQ_INLINE void lt_quantize(const float* transformed, const uint16_t* order, size_t depth, uint8_t* input) {
  const size_t block = lt_block(depth);
  int8_t* bytes = reinterpret_cast<int8_t*>(input);
  float* scales = reinterpret_cast<float*>(input + lt_scales_at(depth));
  int32_t* sums = reinterpret_cast<int32_t*>(input + lt_sums_at(depth));
  for (size_t i = 0; i < depth / block; ++i, bytes += block, order += block) {
    float gathered[kLtMostBlock];
    for (size_t k = 0; k < block; ++k) gathered[k] = transformed[order[k]];
    quantize_block(gathered, block, bytes, scales + i);
    sum_groups(bytes, 1, block, sums + i);
  }
}

// Contract: lt_transform_input in localq_kernels.h.
LOCALQ_INLINE void lt_transform(const localq_lt_input* transform, const float* values, size_t depth, uint8_t* input,
                                float* workspace) {
  const size_t block = lt_block(depth);
  for (size_t at = 0; at < depth; at += block) {
    if (block == 128) {
      transform_block<128>(values + at, transform->signs + at / 8, workspace + at);
    } else {
      transform_block<64>(values + at, transform->signs + at / 8, workspace + at);
    }
  }
  lt_quantize(workspace, transform->order, depth, input);
}

}  // namespace
