// Part of kernels_check: packing and dequantizing have the same bits on every processor. The sums below are
// those of a build that the Python tests hold against NumPy and ggml; sanitizers watch the ends of the
// buffers.
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "localq_kernels.h"

namespace {

constexpr uint64_t kPacked = 0xefc927f8825e6d9e, kValues = 0xd6c8033e55199c74;

uint64_t fnv1a(uint64_t hash, const void* data, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3;
  return hash;
}

// Finite, of both signs, some subnormal.
uint16_t half(uint64_t bits) { return static_cast<uint16_t>((bits & 0x83FF) | (bits >> 16 & 1) << 13); }

}  // namespace

bool check_blocks() {
  std::mt19937_64 random_bits(20250311);
  uint64_t packed = 0xcbf29ce484222325, values = packed;
  size_t types = 0;
  for (uint32_t type = 0; type < 64; ++type) {
    const localq_block_layout* layout = localq_block_layout_of(type);
    if (layout == nullptr) continue;
    ++types;
    for (const size_t count : {size_t{1}, size_t{3}, size_t{17}}) {
      std::vector<uint8_t> codes(count * layout->weights),
          minima(layout->minima ? count * layout->groups : 0);
      std::vector<uint16_t> scale(count), minimum(layout->minimum ? count : 0);
      std::vector<int8_t> scales(layout->scales ? count * layout->groups : 0);
      for (uint8_t& code : codes) code = static_cast<uint8_t>(random_bits() % (type == 34 ? 3 : 256));
      for (uint16_t& bits : scale) bits = half(random_bits());
      for (uint16_t& bits : minimum) bits = half(random_bits());
      for (int8_t& value : scales) value = static_cast<int8_t>(random_bits() % 16 - (layout->minima ? 0 : 8));
      for (uint8_t& value : minima) value = static_cast<uint8_t>(random_bits() % 16);
      const localq_blocks blocks = {codes.data(), scale.data(), minimum.data(), scales.data(), minima.data()};
      std::vector<uint8_t> data(count * layout->bytes);
      std::vector<float> weights(count * layout->weights);
      if (!localq_pack_blocks(type, &blocks, count, data.data())) return false;
      if (!localq_dequantize_blocks(type, data.data(), count, weights.data())) return false;
      packed = fnv1a(packed, data.data(), data.size());
      values = fnv1a(values, weights.data(), weights.size() * sizeof(float));
    }
  }
  const bool same = packed == kPacked && values == kValues && types == 16;
  if (!same) {
    printf("blocks of %zu types: got %#llx and %#llx\n", types, static_cast<unsigned long long>(packed),
           static_cast<unsigned long long>(values));
  }
  return same && !localq_pack_blocks(16, nullptr, 0, nullptr) &&
         !localq_dequantize_blocks(16, nullptr, 0, nullptr);
}
