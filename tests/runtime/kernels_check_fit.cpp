// Part of kernels_check: the scale search finds the same blocks on every processor. The sum below is that of
// a build that the Python tests hold against NumPy; sanitizers watch the ends of the buffers.
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <random>
#include <vector>

#include "localq_kernels.h"

namespace {

constexpr uint64_t kFound = 0x4f73e9872a5cd953;

template <class Element>
uint64_t fnv1a(uint64_t hash, const std::vector<Element>& elements) {
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(elements.data());
  for (size_t i = 0; i < elements.size() * sizeof(Element); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3;
  return hash;
}

localq_format uniform(uint32_t block, uint32_t group, int low, int high, uint32_t affine = 0,
                      int scale_low = 0, int scale_high = 0, int minima_high = 0) {
  localq_format format = {
      block, group, static_cast<uint32_t>(high - low + 1), affine, scale_low, scale_high, minima_high, {}};
  for (int level = low; level <= high; ++level) format.levels[level - low] = static_cast<float>(level);
  return format;
}

localq_format squares(uint32_t block, uint32_t group, int scale_low, int scale_high) {
  localq_format format = {block, group, 8, 0, scale_low, scale_high, 0, {}};
  for (int level = 0; level < 8; ++level) {
    const int root = 2 * level - 7;
    format.levels[level] = static_cast<float>(root < 0 ? -root * root : root * root + 2);
  }
  return format;
}

// Bell-shaped, exact in float32: a sum of twelve bytes.
float drawn(std::mt19937_64& random_bits) {
  int sum = -1530;
  for (int i = 0; i < 12; ++i) sum += static_cast<int>(random_bits() % 256);
  return static_cast<float>(sum) / 4096.0f;
}

}  // namespace

bool check_fit(const localq_backend& backend) {
  std::mt19937_64 random_bits(20250607);
  uint64_t found = 0xcbf29ce484222325;
  for (const localq_format& format :
       {uniform(128, 128, -1, 1), uniform(64, 64, -1, 2), uniform(32, 32, -8, 7), uniform(32, 32, -128, 127),
        uniform(32, 32, 0, 15, 1), uniform(256, 16, 0, 3, 1, 0, 15, 15),
        uniform(256, 32, 0, 15, 1, 0, 63, 63), uniform(256, 16, -32, 31, 0, -128, 127), squares(32, 32, 0, 0),
        squares(256, 32, -32, 31)}) {
    for (const size_t rows : {size_t{1}, size_t{19}}) {
      const size_t columns = 2 * format.block, groups = rows * columns / format.group;
      std::vector<float> weights(rows * columns), importance(columns);
      for (float& weight : weights) weight = drawn(random_bits);
      for (float& factor : importance) factor = static_cast<float>(random_bits() % 1000);
      for (size_t j = 0; j < format.block && rows > 1; ++j) weights[columns + j] = 0.0f;
      std::vector<uint8_t> codes(rows * columns), minima(format.minima_high != 0 ? groups : 0);
      std::vector<uint16_t> scale(rows * 2), minimum(format.affine != 0 ? rows * 2 : 0);
      std::vector<int8_t> scales(format.scale_high != 0 ? groups : 0);
      const localq_blocks blocks = {codes.data(), scale.data(), minimum.data(), scales.data(), minima.data()};
      backend.fit_f32(&format, weights.data(), rows, columns, importance.data(), &blocks);
      found = fnv1a(fnv1a(fnv1a(fnv1a(fnv1a(found, codes), scale), minimum), scales), minima);
    }
  }
  if (found != kFound)
    printf("%s fit_f32: got %#llx\n", backend.name, static_cast<unsigned long long>(found));
  return found == kFound;
}
