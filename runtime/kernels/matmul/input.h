// Inputs of products: a column's float values as bytes, with a scale for each block and the sums that codes above
// zero and minima need.
//
//   values   [depth] int8, -127 to 127, and kInputPadding zeros: a last step may read past the depth
//   scales   [depth / block] float: largest |value| of the block / 127
//   sums     [depth / group] int32: minus the sum of each group's bytes. Groups are blocks; of blocks of 256 there
//            are sums of 32 and of 16 too, so that all formats with such blocks share inputs.
#pragma once

#include "lanes.h"

namespace {

constexpr size_t kInputPadding = 64, kSuperBlock = 256;

constexpr size_t up_to_line(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Where the parts of an input begin, in bytes.
constexpr size_t scales_at(size_t depth) { return up_to_line(depth + kInputPadding); }
constexpr size_t sums_at(size_t depth, size_t block, size_t group) {
  const size_t blocks_at = scales_at(depth) + up_to_line(depth / block * sizeof(float));
  if (group == block) return blocks_at;
  const size_t of_32_at = blocks_at + up_to_line(depth / block * sizeof(int32_t));
  return group == 32 ? of_32_at : of_32_at + up_to_line(depth / 32 * sizeof(int32_t));
}
constexpr size_t smallest_group(size_t block) { return block == kSuperBlock ? 16 : block; }
constexpr size_t input_bytes(size_t depth, size_t block) {
  const size_t group = smallest_group(block);
  return sums_at(depth, block, group) + up_to_line(depth / group * sizeof(int32_t));
}

// Values so small that 127 over them is not finite count as 0.
constexpr float kSmallest = 0x1p-100f;

// A block in which some value is not finite gets that for its scale, and so do all products with it.
LOCALQ_INLINE void quantize_block(const float* values, size_t block, int8_t* bytes, float* scale) {
  i32x16 most = all_i32(0);  // as integers: NaN is above infinity, infinity above all else
  for (size_t i = 0; i < block; i += kLanes) {
    const i32x16 magnitude = bits_of(load(values + i)) & all_i32(0x7fffffff);
    LOCALQ_EACH_PART most.part[p] = magnitude.part[p] > most.part[p] ? magnitude.part[p] : most.part[p];
  }
  int32_t magnitudes[kLanes], bits = 0;
  store(magnitudes, most);
  for (const int32_t magnitude : magnitudes) bits = magnitude > bits ? magnitude : bits;
  float largest;
  __builtin_memcpy(&largest, &bits, sizeof largest);
  const bool counts = bits < 0x7f800000 && largest >= kSmallest;
  *scale = counts || bits >= 0x7f800000 ? largest / 127.0f : 0.0f;
  if (!counts) {
    __builtin_memset(bytes, 0, block);
    return;
  }
  const f32x16 inverse = all(127.0f / largest);
  for (size_t i = 0; i < block; i += kLanes) {
    const f32x16 scaled = round_to_even(load(values + i) * inverse);
    int32_t integers[kLanes];
    LOCALQ_EACH_PART reinterpret_cast<i32part_any*>(integers)[p] = __builtin_convertvector(scaled.part[p], i32part);
    for (size_t lane = 0; lane < kLanes; ++lane) bytes[i + lane] = static_cast<int8_t>(integers[lane]);
  }
}

LOCALQ_INLINE void sum_groups(const int8_t* bytes, size_t count, size_t group, int32_t* sums) {
  for (size_t i = 0; i < count; ++i, bytes += group) {
    int32_t sum = 0;
    for (size_t k = 0; k < group; ++k) sum -= bytes[k];
    sums[i] = sum;
  }
}

LOCALQ_INLINE void quantize(const float* values, size_t depth, size_t block, uint8_t* input) {
  int8_t* bytes = reinterpret_cast<int8_t*>(input);
  float* scales = reinterpret_cast<float*>(input + scales_at(depth));
  const auto sums = [=](size_t group) { return reinterpret_cast<int32_t*>(input + sums_at(depth, block, group)); };
  for (size_t i = 0; i < depth / block; ++i) quantize_block(values + i * block, block, bytes + i * block, scales + i);
  __builtin_memset(bytes + depth, 0, kInputPadding);
  const size_t group = smallest_group(block);
  sum_groups(bytes, depth / group, group, sums(group));
  if (block != kSuperBlock) return;
  for (size_t i = 0; i < depth / 32; ++i) sums(32)[i] = sums(16)[2 * i] + sums(16)[2 * i + 1];
  for (size_t i = 0; i < depth / block; ++i) {
    int32_t sum = 0;
    for (size_t k = 0; k < 8; ++k) sum += sums(32)[8 * i + k];
    sums(block)[i] = sum;
  }
}

}  // namespace
