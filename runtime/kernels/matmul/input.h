// Inputs of products: a column's float values as bytes, with a scale for each block and the sums that codes above
// zero and minima need. An input's blocks are of 256 values where the matrix's are, else of 32; bytes and scales are
// those that ggml makes for the same matrix (its Q8_K, Q8_0 and Q8_1), so that results differ by the order of float
// sums only.
//
//   values   [depth] int8, -127 to 127, and kInputPadding zeros: a last step may read past the depth
//   scales   [depth / block] float: largest |value| of the block / 127; of 32 values rounded to fp16, of 256 one
//            over the inverse that made the bytes
//   sums     [depth / group] int32: minus the sum of each group's bytes. Groups are blocks; of blocks of 256 there
//            are sums of 32 and of 16 too, so that all formats with such blocks share inputs.
//   lows     [depth / 32] float, of blocks of 32: sums times scales before their rounding, rounded to fp16
//
// Static scales (docs/formats.md) take the place of the largest value: nothing is searched, what is beyond 127 steps
// becomes 127, and all else is as above.
#pragma once

#include "fit/half.h"
#include "lanes.h"

namespace {

constexpr size_t kInputPadding = 64, kSuperBlock = 256;

constexpr size_t up_to_line(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Values of an input's block, for a matrix whose blocks have `weights`.
constexpr size_t input_block(size_t weights) { return weights == kSuperBlock ? kSuperBlock : 32; }

// Where the parts of an input begin, in bytes; `block` is the input's.
constexpr size_t words(size_t count) { return up_to_line(count * sizeof(int32_t)); }
constexpr size_t scales_at(size_t depth) { return up_to_line(depth + kInputPadding); }
constexpr size_t sums_at(size_t depth, size_t block, size_t group) {
  const size_t blocks_at = scales_at(depth) + words(depth / block);
  if (group >= block) return blocks_at;
  const size_t of_32_at = blocks_at + words(depth / block);
  return group == 32 ? of_32_at : of_32_at + words(depth / 32);
}
constexpr size_t lows_at(size_t depth) { return sums_at(depth, 32, 32) + words(depth / 32); }
constexpr size_t input_bytes(size_t depth, size_t block) {
  return block == kSuperBlock ? sums_at(depth, block, 16) + words(depth / 16) : lows_at(depth) + words(depth / 32);
}

// Values so small that 127 over them is not finite count as 0.
constexpr float kSmallest = 0x1p-100f;

// To the nearest integers, which int8 has.
LOCALQ_INLINE void store_bytes(f32x16 scaled, int8_t* bytes) {
  scaled = round_to_even(scaled);
  int32_t integers[kLanes];
  LOCALQ_EACH_PART reinterpret_cast<i32part_any*>(integers)[p] = __builtin_convertvector(scaled.part[p], i32part);
  for (size_t lane = 0; lane < kLanes; ++lane) bytes[lane] = static_cast<int8_t>(integers[lane]);
}

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
  if (!counts) {
    *scale = bits >= 0x7f800000 ? largest : 0.0f;
    __builtin_memset(bytes, 0, block);
    return;
  }
  *scale = block == kSuperBlock ? 1.0f / (127.0f / largest) : largest / 127.0f;
  const f32x16 inverse = all(127.0f / largest);
  for (size_t i = 0; i < block; i += kLanes) store_bytes(load(values + i) * inverse, bytes + i);
}

// All blocks under scales that were given, `inverses` of them: bytes, -127 to 127. Whether all values were finite.
LOCALQ_INLINE bool quantize_with(const float* values, size_t depth, size_t block, const float* inverses,
                                 int8_t* bytes) {
  const f32x16 highest = all(127.0f), lowest = all(-127.0f);
  i32x16 most = all_i32(0);
  for (size_t b = 0; b < depth / block; ++b) {
    const f32x16 inverse = all(inverses[b]);
    for (size_t i = b * block; i < (b + 1) * block; i += kLanes) {
      const f32x16 value = load(values + i);
      const i32x16 magnitude = bits_of(value) & all_i32(0x7fffffff);
      LOCALQ_EACH_PART most.part[p] = magnitude.part[p] > most.part[p] ? magnitude.part[p] : most.part[p];
      store_bytes(larger(smaller(value * inverse, highest), lowest), bytes + i);
    }
  }
  int32_t magnitudes[kLanes], bits = 0;
  store(magnitudes, most);
  for (const int32_t magnitude : magnitudes) bits = magnitude > bits ? magnitude : bits;
  return bits < 0x7f800000;
}

LOCALQ_INLINE void sum_groups(const int8_t* bytes, size_t count, size_t group, int32_t* sums) {
  for (size_t i = 0; i < count; ++i, bytes += group) {
    int32_t sum = 0;
    for (size_t k = 0; k < group; ++k) sum -= bytes[k];
    sums[i] = sum;
  }
}

// To the nearest fp16; what is beyond its range, or no number, stays.
LOCALQ_INLINE f32x16 as_half(f32x16 value) {
  return choose(magnitude(value) <= all(kHalfMax), round_to_half(value), value);
}

// The scales of blocks of 32 as they will be used, and what minima are multiplied with.
LOCALQ_INLINE void round_scales(size_t blocks, float* scales, int32_t* sums, float* lows) {
  for (size_t i = blocks; i % kLanes != 0; ++i) {
    scales[i] = 0.0f;
    sums[i] = 0;
  }
  for (size_t i = 0; i < blocks; i += kLanes) {
    const f32x16 scale = load(scales + i);
    const i32x16 sum = load(sums + i);
    f32x16 low;
    LOCALQ_EACH_PART low.part[p] = __builtin_convertvector(sum.part[p], f32part) * scale.part[p];
    store(lows + i, as_half(low));
    store(scales + i, as_half(scale));
  }
}

// Sums and lows of bytes and scales that are there. `block`: the input's.
LOCALQ_INLINE void finish_input(size_t depth, size_t block, uint8_t* input) {
  int8_t* bytes = reinterpret_cast<int8_t*>(input);
  const auto sums = [=](size_t group) { return reinterpret_cast<int32_t*>(input + sums_at(depth, block, group)); };
  __builtin_memset(bytes + depth, 0, kInputPadding);
  const size_t group = block == kSuperBlock ? 16 : 32;
  sum_groups(bytes, depth / group, group, sums(group));
  if (block != kSuperBlock) {
    round_scales(depth / block, reinterpret_cast<float*>(input + scales_at(depth)), sums(group),
                 reinterpret_cast<float*>(input + lows_at(depth)));
    return;
  }
  for (size_t i = 0; i < depth / 32; ++i) sums(32)[i] = sums(16)[2 * i] + sums(16)[2 * i + 1];
  for (size_t i = 0; i < depth / block; ++i) {
    int32_t sum = 0;
    for (size_t k = 0; k < 8; ++k) sum += sums(32)[8 * i + k];
    sums(block)[i] = sum;
  }
}

// `weights`: those of a block of the matrix.
LOCALQ_INLINE void quantize(const float* values, size_t depth, size_t weights, uint8_t* input) {
  const size_t block = input_block(weights);
  int8_t* bytes = reinterpret_cast<int8_t*>(input);
  float* scales = reinterpret_cast<float*>(input + scales_at(depth));
  for (size_t i = 0; i < depth / block; ++i) quantize_block(values + i * block, block, bytes + i * block, scales + i);
  finish_input(depth, block, input);
}

// The same with static scales: [depth / block], and their inverses.
LOCALQ_INLINE void quantize_static(const float* values, const float* scales, const float* inverses, size_t depth,
                                   size_t weights, uint8_t* input) {
  const size_t block = input_block(weights), count = depth / block;
  float* own = reinterpret_cast<float*>(input + scales_at(depth));
  const bool finite = quantize_with(values, depth, block, inverses, reinterpret_cast<int8_t*>(input));
  for (size_t i = 0; i < count; ++i) own[i] = finite ? scales[i] : __builtin_nanf("");
  finish_input(depth, block, input);
}

}  // namespace
