// Products with LT matrices: every instruction set against the reference, bit for bit, on random shapes, with strips,
// inputs and outputs that end at a page that may not be touched.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "guarded.h"
#include "localq_kernels.h"

namespace {

constexpr size_t kMostColumns = 20, kMostDepth = 1024, kMostRows = 150;

std::mt19937_64 random_bits;

size_t below(size_t limit) { return static_cast<size_t>(random_bits() % limit); }

struct Memory {
  Guarded strips{3 * (128 + 32 * kMostDepth)}, inputs{kMostColumns * (kMostDepth + 1024)}, signs{kMostDepth / 8},
      order{kMostDepth * 2}, values{kMostDepth * 4}, table{256}, output{kMostColumns * kMostRows * sizeof(float)};
};

struct Shape {
  uint32_t bits, state_bits;
  size_t rows, depth, columns;
};

// Any codes; scales between 2^-15 and 2.
void fill(uint8_t* strips, size_t count, size_t strip_bytes) {
  for (size_t i = 0; i < count * strip_bytes; ++i) strips[i] = static_cast<uint8_t>(random_bits());
  for (size_t strip = 0; strip < count; ++strip) {
    for (size_t row = 0; row < LOCALQ_LT_ROWS; ++row) strips[strip * strip_bytes + 2 * row + 1] &= 0xBF;
  }
}

// One case on every backend; the number of wrong ones.
int check_case(const Shape& shape, Memory& memory) {
  const size_t depth = shape.depth, strip_bytes = localq_lt_strip_bytes(shape.bits, depth);
  const size_t count = (shape.rows + LOCALQ_LT_ROWS - 1) / LOCALQ_LT_ROWS, input_bytes = localq_lt_input_bytes(depth);
  uint8_t *strips = memory.strips.last(count * strip_bytes), *inputs = memory.inputs.last(shape.columns * input_bytes);
  fill(strips, count, strip_bytes);
  uint8_t* signs = memory.signs.last(depth / 8);
  for (size_t i = 0; i < depth / 8; ++i) signs[i] = static_cast<uint8_t>(random_bits());
  uint16_t* order = reinterpret_cast<uint16_t*>(memory.order.last(2 * depth));
  std::iota(order, order + depth, uint16_t{0});
  std::shuffle(order, order + depth, random_bits);
  int8_t* table = reinterpret_cast<int8_t*>(memory.table.last(size_t{1} << shape.state_bits));
  const size_t largest = shape.state_bits == 4 ? 64 : 127;
  for (size_t i = 0; i < size_t{1} << shape.state_bits; ++i) {
    table[i] = static_cast<int8_t>(static_cast<int>(below(2 * largest + 1)) - static_cast<int>(largest));
  }
  float* values = reinterpret_cast<float*>(memory.values.last(4 * depth));
  float* output = reinterpret_cast<float*>(memory.output.last(shape.columns * shape.rows * sizeof(float)));
  std::vector<std::vector<float>> sources(shape.columns, std::vector<float>(depth));
  for (std::vector<float>& source : sources) {
    for (float& value : source) value = static_cast<float>(static_cast<int>(below(20001)) - 10000) / 1e4f;
  }
  std::vector<localq_column> columns;
  for (size_t c = 0; c < shape.columns; ++c) columns.push_back({inputs + c * input_bytes, output + c * shape.rows});
  const localq_product product{strips, shape.rows, depth, columns.data(), shape.columns, table, false};
  const localq_lt_input transform{signs, order};
  std::vector<uint8_t> workspace(localq_lt_workspace_bytes(depth, shape.columns) + 64), wanted_inputs;
  uint8_t* aligned = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64) % 64;
  std::vector<float> wanted;
  int wrong = 0;
  size_t last = 0;
  while (localq_backend_at(last + 1) != nullptr) ++last;
  for (size_t i = last + 1; i-- > 0;) {  // the reference is the last one
    const localq_backend* backend = localq_backend_at(i);
    if (backend->required_features & ~localq_cpu_features()) continue;
    std::fill(inputs, inputs + shape.columns * input_bytes, uint8_t{0});
    for (size_t c = 0; c < shape.columns; ++c) {
      std::copy(sources[c].begin(), sources[c].end(), values);
      backend->lt_transform_input(&transform, values, depth, inputs + c * input_bytes,
                                  reinterpret_cast<float*>(aligned));
    }
    const size_t results = shape.columns * shape.rows;
    std::fill(output, output + results, -1.0f);
    backend->lt_multiply_of(shape.bits, shape.state_bits)(&product, 0, count, aligned);
    if (i == last) {
      wanted.assign(output, output + results);
      wanted_inputs.assign(inputs, inputs + shape.columns * input_bytes);
    }
    const bool same_inputs = memcmp(inputs, wanted_inputs.data(), wanted_inputs.size()) == 0;
    if (same_inputs && memcmp(output, wanted.data(), results * sizeof(float)) == 0) continue;
    printf("%s lt%u states %u rows %zu depth %zu columns %zu: other %s\n", backend->name, shape.bits, shape.state_bits,
           shape.rows, depth, shape.columns, same_inputs ? "results" : "inputs");
    ++wrong;
  }
  return wrong;
}

}  // namespace

// `cases` random shapes of every format, other ones for each seed.
bool check_lt(size_t cases, uint64_t seed) {
  random_bits.seed(seed);
  Memory memory;
  int wrong = 0;
  for (uint32_t bits = 1; bits <= 4; ++bits) {
    for (const uint32_t state_bits : {4u, 6u, 8u}) {
      for (size_t i = 0; i < cases && wrong < 20; ++i) {
        const size_t most = below(8) == 0 ? kMostDepth / 64 : 4;
        wrong += check_case({bits, state_bits, 1 + below(kMostRows), 64 * (1 + below(most)),
                             1 + below(below(4) == 0 ? kMostColumns : 4)},
                            memory);
      }
    }
  }
  printf("lt: %s\n", wrong == 0 ? "ok" : "FAILED");
  return wrong == 0;
}
