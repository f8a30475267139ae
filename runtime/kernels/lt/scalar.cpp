// The reference of products with LT matrices: bit after bit as the format has them, compiled without
// auto-vectorisation.
#include "kernels.h"

#include "lt/layout.h"
#include "blocks/layouts.h"
#include "matmul/input.h"

namespace {

// A step of a ring: the strip's bytes of eight columns, which of their 64-bit words the ring begins in, which step.
struct Place {
  size_t word, half, step;
};

// Where the weight of row `row` (of 64) and column `column` (of 8) is.
Place place_of(unsigned bits, size_t row, size_t column) {
  const size_t j = row / 8, group = column / 4, i = row % 2 * 4 + column % 4;
  switch (bits) {
    case 1: return {j, 0, 8 * i + 4 * group + row % 8 / 2};
    case 4: return {8 * (2 * group + row % 8 / 4) + j, 0, 2 * i + row % 4 / 2};
    default: return {8 * group + j, group, 4 * i + row % 8 / 2};
  }
}

unsigned bit_of(const uint8_t* step, size_t word, size_t bit) { return (step[8 * word + bit / 8] >> (bit % 8)) & 1; }

// Bit `bit` of a place's ring.
unsigned ring_bit(const uint8_t* step, unsigned bits, const Place& place, size_t bit) {
  if (bits != 3) return bit_of(step, place.word, bit % 64);
  const size_t at = bit % 96 / 3, within = bit % 3;
  if (within == 0) return bit_of(step, 16 + place.word % 8, 32 * place.half + at);
  return bit_of(step, place.word, 2 * at + within - 1);
}

template <unsigned bits, unsigned state_bits>
unsigned state_of(const uint8_t* step, size_t row, size_t column) {
  const Place place = place_of(bits, row, column);
  unsigned state = 0;
  for (unsigned b = 0; b < state_bits; ++b) state |= ring_bit(step, bits, place, bits * place.step + b) << b;
  return state;
}

template <unsigned bits, unsigned state_bits>
void multiply_reference(const localq_product* product, size_t first_strip, size_t last_strip, uint8_t*) {
  const size_t depth = product->depth, block = lt_block(depth);
  for (size_t row = first_strip * kLtRows; row < last_strip * kLtRows && row < product->rows; ++row) {
    const uint8_t* strip = product->strips + row / kLtRows * lt_strip_bytes(bits, depth);
    for (size_t c = 0; c < product->columns; ++c) product->column[c].output[row] = 0.0f;
    for (size_t at = 0; at < depth; at += block) {
      int8_t values[128];
      for (size_t k = 0; k < block; ++k) {
        const uint8_t* step = strip + kLtScales + (at + k) / kLtStep * kLtLine * bits;
        values[k] = product->table[state_of<bits, state_bits>(step, row % kLtRows, k % kLtStep)];
      }
      for (size_t c = 0; c < product->columns; ++c) {
        const uint8_t* input = product->column[c].input;
        int32_t sum = 0;
        for (size_t k = 0; k < block; ++k) sum += values[k] * reinterpret_cast<const int8_t*>(input)[at + k];
        float& total = product->column[c].output[row];
        total = __builtin_fmaf(static_cast<float>(sum),
                               reinterpret_cast<const float*>(input + lt_scales_at(depth))[at / block], total);
      }
    }
    const float scale = half_to_float(get_u16(strip + 2 * (row % kLtRows)));
    for (size_t c = 0; c < product->columns; ++c) product->column[c].output[row] *= scale;
  }
}

template <unsigned state_bits>
localq_multiply* find(uint32_t bits) {
  switch (bits) {
    case 1: return multiply_reference<1, state_bits>;
    case 2: return multiply_reference<2, state_bits>;
    case 3: return multiply_reference<3, state_bits>;
    case 4: return multiply_reference<4, state_bits>;
    default: return nullptr;
  }
}

}  // namespace

localq_multiply* localq::lt_multiply_of_scalar(uint32_t bits, uint32_t state_bits) {
  switch (state_bits) {
    case 4: return find<4>(bits);
    case 6: return find<6>(bits);
    case 8: return find<8>(bits);
    default: return nullptr;
  }
}

void localq::lt_transform_input_scalar(const localq_lt_input* transform, const float* values, size_t depth,
                                       uint8_t* input, float* workspace) {
  const size_t block = lt_block(depth);
  const float factor = block == 128 ? 0x1.6a09e6p-4f : 0.125f;
  for (size_t c = 0; c < depth; ++c) workspace[c] = transform->signs[c / 8] >> (c % 8) & 1 ? -values[c] : values[c];
  for (size_t first = 0; first < depth; first += block) {
    float* at = workspace + first;
    for (size_t distance = 1; distance < block; distance *= 2) {
      for (size_t i = 0; i < block; ++i) {
        if (i & distance) continue;
        const float a = at[i], b = at[i + distance];
        at[i] = a + b;
        at[i + distance] = a - b;
      }
    }
    for (size_t i = 0; i < block; ++i) at[i] *= factor;
  }
  float gathered[128];
  for (size_t i = 0; i < depth / block; ++i) {
    for (size_t k = 0; k < block; ++k) gathered[k] = workspace[transform->order[i * block + k]];
    int8_t* bytes = reinterpret_cast<int8_t*>(input) + i * block;
    quantize_block(gathered, block, bytes, reinterpret_cast<float*>(input + lt_scales_at(depth)) + i);
    sum_groups(bytes, 1, block, reinterpret_cast<int32_t*>(input + lt_sums_at(depth)) + i);
  }
}
