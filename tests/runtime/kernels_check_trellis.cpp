// Part of kernels_check: words of a trellis have the same bits on every processor. The sum below is that of a build
// that the Python tests hold against float64; sanitizers watch the ends of the buffers.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "localq_kernels.h"

namespace {

constexpr uint64_t kExpected = 0x60f93a9eaf1d6fa;
constexpr size_t kRows = LOCALQ_TILE_ROWS, kTiles = 3, kColumns = 16;

struct Free {
  void operator()(float* pointer) const { free(pointer); }
};

}  // namespace

bool check_trellis(const localq_backend& backend) {
  std::mt19937_64 bits(20261127);
  const auto number = [&bits] { return static_cast<float>(static_cast<int>(bits() % 255) - 127); };
  const std::unique_ptr<float, Free> workspace(
      static_cast<float*>(aligned_alloc(64, LOCALQ_TRELLIS_WORKSPACE * sizeof(float))));
  uint64_t hash = 0xcbf29ce484222325;
  for (const uint32_t symbol_bits : {1u, 2u, 3u, 4u}) {
    for (const uint32_t state_bits : {4u, 6u, 8u}) {
      localq_trellis trellis = {symbol_bits, state_bits, {}};
      for (uint32_t state = 0; state < 1u << state_bits; ++state) trellis.table[state] = number();
      std::vector<float> weights(kTiles * kColumns * kRows), errors(weights.size()), scales(kTiles * kRows);
      for (float& weight : weights) weight = number() / 64;
      for (float& scale : scales) scale = static_cast<float>(1 + bits() % 8) / 128;
      std::vector<float> coefficients(kColumns * kColumns);
      for (float& coefficient : coefficients) coefficient = number() / 1024;
      std::vector<uint8_t> states(weights.size());
      const std::vector<uint32_t> group_of(kColumns);
      const localq_feedback feedback = {kTiles,          kColumns,      1,       weights.data(),
                                        errors.data(),   states.data(), scales.data(), nullptr,
                                        group_of.data(), coefficients.data()};
      std::vector<float> targets = weights;
      backend.trellis_round_f32(&feedback, &trellis, 0, kColumns, targets.data(), workspace.get());
      for (const uint8_t state : states) hash = (hash ^ state) * 0x100000001b3;
      for (size_t at = 0; at < weights.size(); ++at) {
        const float value = scales[at / (kColumns * kRows) * kRows + at % kRows] * trellis.table[states[at]];
        if (errors[at] != weights[at] - value) return false;
      }
    }
  }
  if (hash != kExpected)
    printf("%s: trellis: got %#llx\n", backend.name, static_cast<unsigned long long>(hash));
  return hash == kExpected;
}
