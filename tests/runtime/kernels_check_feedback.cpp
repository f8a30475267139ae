// Part of kernels_check: Gram matrices, Cholesky factors and error feedback have the same bits on every
// processor. The sum below is that of a build that the Python tests hold against float64; sanitizers watch
// the ends of the buffers, which are no larger than the contract says.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "localq_kernels.h"

namespace {

constexpr uint64_t kExpected = 0x8c25c2c8b4c3ae66;
constexpr size_t kRows = LOCALQ_TILE_ROWS, kTiles = 2, kColumns = 320, kTokens = 150;

uint64_t fnv1a(uint64_t hash, const void* data, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3;
  return hash;
}

struct Free {
  void operator()(float* pointer) const { free(pointer); }
};

// On a 64-byte boundary, filled with what the kernels have to overwrite.
std::unique_ptr<float, Free> aligned(size_t count) {
  float* memory = static_cast<float*>(aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64));
  for (size_t i = 0; i < count; ++i) memory[i] = 1e30f;
  return std::unique_ptr<float, Free>(memory);
}

struct Numbers {
  std::mt19937_64 bits{20251122};

  // Multiples of 1/1024 from -1 to 1: exact everywhere.
  float operator()() { return static_cast<float>(static_cast<int>(bits() % 2049) - 1024) / 1024.0f; }

  std::vector<float> many(size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = (*this)();
    return values;
  }
};

localq_format format_of(uint32_t group, bool affine, bool table) {
  localq_format format = {};
  format.block = 64, format.group = group, format.level_count = 16, format.affine = affine;
  if (group < 64) format.scale_low = affine ? 0 : -32, format.scale_high = 31;
  if (group < 64 && affine) format.minima_high = 63;
  for (int i = 0; i < 16; ++i)
    format.levels[i] = static_cast<float>(table ? i * i / 2 + i - 40 : i - (affine ? 0 : 8));
  return format;
}

// The lower triangle counts; what is above it differs.
uint64_t hash_lower(uint64_t hash, const std::vector<float>& matrix, size_t size) {
  for (size_t row = 0; row < size; ++row) hash = fnv1a(hash, &matrix[row * size], (row + 1) * sizeof(float));
  return hash;
}

}  // namespace

bool check_feedback(const localq_backend& backend) {
  Numbers numbers;
  uint64_t hash = 0xcbf29ce484222325;
  const std::vector<float> x = numbers.many(kTokens * kColumns);
  std::vector<float> gram(kColumns * kColumns);
  {
    const auto workspace = aligned(LOCALQ_GRAM_WORKSPACE);
    for (size_t part = 0; part < 3; ++part) {
      backend.gram_f32(x.data(), kTokens, kColumns, 1, kColumns, 1.0f, gram.data(), kColumns, part, 3,
                       workspace.get());
    }
    std::vector<float> blocks(kColumns * 40);
    backend.gram_f32(x.data(), kTokens, kColumns, kColumns / 40, 40, 1.0f, blocks.data(), 40, 0, 1,
                     workspace.get());
    hash = hash_lower(hash, gram, kColumns);
    for (size_t block = 0; block < kColumns / 40; ++block) {
      const auto first = blocks.begin() + static_cast<ptrdiff_t>(block * 1600);
      hash = hash_lower(hash, std::vector<float>(first, first + 1600), 40);
    }
  }
  for (size_t row = 0; row < kColumns; ++row) {
    gram[row * kColumns + row] += 2.0f;
    for (size_t column = 0; column < row; ++column)
      gram[column * kColumns + row] = gram[row * kColumns + column];
  }
  std::vector<float> factor = gram;
  {
    const auto workspace = aligned(LOCALQ_CHOLESKY_WORKSPACE), product = aligned(LOCALQ_GRAM_WORKSPACE);
    for (size_t last = kColumns; last > 0;) {
      const size_t first = (last - 1) / LOCALQ_CHOLESKY_STEP * LOCALQ_CHOLESKY_STEP;
      if (backend.cholesky_step_f32(factor.data(), kColumns, first, last, 0.0, workspace.get()) != -1)
        return false;
      backend.gram_f32(&factor[first * kColumns], last - first, kColumns, 1, first, -1.0f, factor.data(),
                       kColumns, 0, 1, product.get());
      last = first;
    }
    hash = hash_lower(hash, factor, kColumns);
  }
  std::vector<float> steps(kColumns);
  for (size_t row = 0; row < kColumns; ++row) {
    steps[row] = 1.0f / gram[row * kColumns + row];
    const float pivot = factor[row * kColumns + row];
    for (size_t column = 0; column <= row; ++column) factor[row * kColumns + column] /= pivot;
  }

  for (const uint32_t group : {16u, 64u}) {
    for (const bool affine : {false, true}) {
      const localq_format format = format_of(group, affine, !affine && group == 16);
      const size_t groups = kColumns / group, blocks = kColumns / 64;
      const std::vector<float> weights = numbers.many(kTiles * kColumns * kRows);
      std::vector<float> errors(weights.size()),
          scale(kTiles * blocks * kRows, 0x1p-10f * (group == 64 ? 64 : 4));
      std::vector<float> minimum(scale.size(), group == 64 ? 1.0f : 0x1p-5f);
      std::vector<float> scales(kTiles * groups * kRows, 20.0f), minima(scales.size(), 30.0f);
      std::vector<float> effective(scales.size()),
          subtracted(scales.size(), group == 64 ? 1.0f : 0x1p-5f * 30);
      for (float& value : effective) value = scale[0] * (group == 64 ? 1.0f : 20.0f);
      std::vector<uint8_t> codes(weights.size());
      std::vector<uint32_t> group_of(kColumns);
      for (size_t k = 0; k < kColumns; ++k) group_of[k] = static_cast<uint32_t>(k / group);
      localq_feedback feedback = {
          kTiles,          kColumns,     groups,           weights.data(),
          errors.data(),   codes.data(), effective.data(), affine ? subtracted.data() : nullptr,
          group_of.data(), factor.data()};
      for (size_t first = 0; first < kColumns; first += 64) {
        std::vector<float> targets(kTiles * 64 * kRows);
        backend.feedback_targets_f32(&feedback, first, first + 64, 0, first, LOCALQ_FROM_WEIGHTS,
                                     targets.data());
        backend.feedback_round_f32(&feedback, &format, first, first + 64, targets.data());
      }
      hash = fnv1a(hash, codes.data(), codes.size());
      hash = fnv1a(hash, errors.data(), errors.size() * sizeof(float));
      feedback.coefficients = gram.data();
      const bool two_levels = group == 16;
      const localq_refinement refinement = {scale.data(),
                                            affine ? minimum.data() : nullptr,
                                            two_levels ? scales.data() : nullptr,
                                            two_levels && affine ? minima.data() : nullptr,
                                            steps.data(),
                                            0.25f,
                                            2};
      const auto workspace = aligned(LOCALQ_REFINE_WORKSPACE);
      for (size_t first = 0; first < kColumns; first += 256) {
        const size_t last = first + 256 < kColumns ? first + 256 : kColumns;
        std::vector<float> outside(kTiles * (last - first) * kRows);
        backend.feedback_targets_f32(&feedback, first, last, 0, first, LOCALQ_FROM_ZERO, outside.data());
        backend.feedback_targets_f32(&feedback, first, last, last, kColumns, LOCALQ_FROM_TARGETS,
                                     outside.data());
        backend.feedback_refine_f32(&feedback, &format, &refinement, first, last, outside.data(),
                                    workspace.get());
      }
      for (const std::vector<float>* array : {&errors, &effective, &scale, &minimum, &scales, &minima}) {
        hash = fnv1a(hash, array->data(), array->size() * sizeof(float));
      }
      hash = fnv1a(hash, codes.data(), codes.size());
    }
  }
  if (hash != kExpected)
    printf("%s: feedback: got %#llx\n", backend.name, static_cast<unsigned long long>(hash));
  return hash == kExpected;
}
