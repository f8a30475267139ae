// LT formats: trellis codes of 1 to 4 bits a weight, in strips of 64 rows (docs/formats.md has every byte).
//
// A weight is scale[row] * table[state], a state being `state_bits` consecutive bits of a ring: 4, 6 or 8. Four columns
// of a strip unfold into four lines of 64 bytes, whatever the bits: byte 8j + i of line q belongs to row
// 8j + 2q + (i >> 2) and column i & 3, so that an int32 lane holds four consecutive columns of a row.
//
// Input of a product: a column's values, transformed (input.h), as bytes with a scale for each block.
//
//   values   [depth] int8, -127 to 127
//   scales   [depth / block] float: largest |value| of the block / 127
//   sums     [depth / block] int32: minus the sum of the block's bytes
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace {

constexpr size_t kLtRows = 64, kLtLine = 64, kLtStep = 8;  // rows of a strip, bytes of a line, columns of a step
constexpr size_t kLtScales = kLtRows * sizeof(uint16_t);
constexpr unsigned kLtMostBits = 4;

constexpr size_t lt_strip_bytes(unsigned bits, size_t depth) { return kLtScales + 8 * bits * depth; }

// Columns that are transformed together and share a scale.
constexpr size_t lt_block(size_t depth) { return depth % 128 == 0 ? 128 : 64; }

constexpr size_t lt_words(size_t count) { return (count * sizeof(int32_t) + 63) / 64 * 64; }
constexpr size_t lt_scales_at(size_t depth) { return depth; }  // a multiple of 64
constexpr size_t lt_sums_at(size_t depth) { return lt_scales_at(depth) + lt_words(depth / lt_block(depth)); }
constexpr size_t lt_input_bytes(size_t depth) { return lt_sums_at(depth) + lt_words(depth / lt_block(depth)); }

// Of a ring of 3 bits a step, the first bit of a step lies apart: how many of a state's bits are such ones.
constexpr unsigned lt_apart(unsigned state_bits) { return (state_bits + 2) / 3; }

// Which state the kernels' index stands for: of 3 bits a step the bits that lie together come first.
constexpr unsigned lt_state(unsigned bits, unsigned state_bits, unsigned index) {
  if (bits != 3) return index;
  const unsigned together = state_bits - lt_apart(state_bits);
  unsigned state = 0;
  for (unsigned bit = 0; bit < state_bits; ++bit) {
    const unsigned at = bit % 3 == 0 ? together + bit / 3 : bit / 3 * 2 + bit % 3 - 1;
    state |= ((index >> at) & 1) << bit;
  }
  return state;
}

}  // namespace
