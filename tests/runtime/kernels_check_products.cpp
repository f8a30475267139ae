// Products of matrices in strips: every instruction set against the reference, bit for bit, on random shapes, with
// strips, inputs and outputs that end at a page that may not be touched.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "guarded.h"
#include "localq_kernels.h"

namespace {

constexpr uint32_t kTypes[] = {2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 34, 35, 41, 42};
constexpr size_t kMostColumns = 20;

std::mt19937_64 random_bits;

size_t below(size_t limit) { return static_cast<size_t>(random_bits() % limit); }

// Any bytes for codes, and now and then for scales too; otherwise scales are small.
void fill(uint8_t* rows, size_t blocks, const localq_strip_layout& layout) {
  for (size_t i = 0; i < blocks * layout.bytes; ++i) rows[i] = static_cast<uint8_t>(random_bits());
  if (below(8) == 0) return;
  for (size_t block = 0; block < blocks; ++block) {
    uint8_t* at = rows + block * layout.bytes;
    // the halves are at one end or the other, depending on the type: exponents below 16 everywhere near
    for (const size_t high : {size_t{1}, size_t{3}, size_t{layout.bytes - 1}, size_t{layout.bytes - 3}}) {
      at[high] = static_cast<uint8_t>((at[high] & 0x83) | 0x20);
    }
  }
}

struct Shape {
  size_t rows, blocks, columns;
};

Shape random_shape(const localq_strip_layout& layout) {
  const size_t most = 2048 / layout.weights + 1;
  return {1 + below(below(4) == 0 ? 97 : 34), 1 + below(below(8) == 0 ? most : 3),
          1 + below(below(4) == 0 ? kMostColumns : 4)};
}

struct Memory {
  Guarded strips{size_t{112} * 2400 * 2}, inputs{kMostColumns * 8192}, output{kMostColumns * 97 * sizeof(float)},
      values{(2048 + 256) * sizeof(float)};
};

// One case on every backend; the number of wrong ones.
int check_case(const localq_strip_layout& layout, const Shape& shape, Memory& memory) {
  const size_t depth = shape.blocks * layout.weights, row_bytes = shape.blocks * layout.bytes;
  const size_t strips = (shape.rows + LOCALQ_STRIP_ROWS - 1) / LOCALQ_STRIP_ROWS;
  std::vector<uint8_t> rows(shape.rows * row_bytes), row(row_bytes);
  fill(rows.data(), shape.rows * shape.blocks, layout);
  uint8_t* packed = memory.strips.last(strips * LOCALQ_STRIP_ROWS * row_bytes);
  localq_pack_strips(layout.ggml_type, rows.data(), shape.rows, depth, 0, strips, packed);
  const size_t some_row = below(shape.rows);
  localq_unpack_row(layout.ggml_type, packed, depth, some_row, row.data());
  int wrong = 0;
  if (layout.ggml_type != 34 && memcmp(row.data(), rows.data() + some_row * row_bytes, row_bytes) != 0) {
    printf("type %u: row %zu of %zu x %zu is not unpacked as it was\n", layout.ggml_type, some_row, shape.rows, depth);
    ++wrong;
  }
  std::vector<float> values(depth);
  const size_t input_bytes = localq_input_bytes(depth, layout.weights);
  uint8_t* inputs = memory.inputs.last(shape.columns * input_bytes);
  float* output = reinterpret_cast<float*>(memory.output.last(shape.columns * shape.rows * sizeof(float)));
  std::vector<localq_column> columns;
  for (size_t c = 0; c < shape.columns; ++c) {
    for (float& value : values) value = static_cast<float>(static_cast<int64_t>(random_bits() % 20001) - 10000) / 1e4f;
    uint8_t* input = inputs + c * input_bytes;
    localq_active_backend()->quantize_input(values.data(), depth, layout.weights, input);
    columns.push_back({input, output + c * shape.rows});
  }
  const localq_product product{packed, shape.rows, depth, columns.data(), shape.columns, nullptr, false};
  std::vector<uint8_t> workspace(localq_workspace_bytes(&layout, depth, shape.columns) + 64);
  uint8_t* aligned = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64) % 64;
  std::vector<float> wanted;
  size_t last = 0;
  while (localq_backend_at(last + 1) != nullptr) ++last;
  for (size_t i = last + 1; i-- > 0;) {  // the reference is the last one
    const localq_backend* backend = localq_backend_at(i);
    if (backend->required_features & ~localq_cpu_features()) continue;
    const size_t count = shape.columns * shape.rows;
    for (size_t k = 0; k < count; ++k) output[k] = -1.0f;
    backend->multiply_of(layout.ggml_type)(&product, 0, strips, aligned);
    if (i == last) wanted.assign(output, output + count);
    for (size_t k = 0; k < count; ++k) {
      const bool same = memcmp(output + k, &wanted[k], sizeof(float)) == 0 || (std::isnan(output[k]) && std::isnan(wanted[k]));
      if (same) continue;
      printf("%s type %u rows %zu depth %zu columns %zu, result %zu: got %g, wanted %g\n", backend->name,
             layout.ggml_type, shape.rows, depth, shape.columns, k, static_cast<double>(output[k]),
             static_cast<double>(wanted[k]));
      ++wrong;
      break;
    }
  }
  return wrong;
}

// Inputs under static scales, of values that may be far beyond them, on every backend; the number of wrong ones.
int check_static_inputs(const localq_strip_layout& layout, const Shape& shape, Memory& memory) {
  const size_t depth = shape.blocks * layout.weights, count = depth / (layout.weights == 256 ? 256 : 32);
  const size_t bytes = localq_input_bytes(depth, layout.weights);
  std::vector<float> values(depth), scales(count), inverses(count);
  for (float& value : values) value = static_cast<float>(static_cast<int64_t>(random_bits() % 20001) - 10000) / 1e2f;
  if (below(8) == 0) values[below(depth)] = INFINITY;
  for (size_t i = 0; i < count; ++i) inverses[i] = 1.0f / (scales[i] = static_cast<float>(1 + below(4096)) / 2048.0f);
  float* end = reinterpret_cast<float*>(memory.values.last(depth * sizeof(float)));
  memcpy(end, values.data(), depth * sizeof(float));
  uint8_t* input = memory.inputs.last(bytes);
  const auto write = [&](const localq_backend& backend) {
    memset(input, 0, bytes);
    backend.quantize_input_static(end, scales.data(), inverses.data(), depth, layout.weights, input);
    return std::vector<uint8_t>(input, input + bytes);
  };
  size_t last = 0;
  while (localq_backend_at(last + 1) != nullptr) ++last;
  const std::vector<uint8_t> wanted = write(*localq_backend_at(last));
  int wrong = 0;
  for (size_t i = 0; i < last; ++i) {
    const localq_backend* backend = localq_backend_at(i);
    if (backend->required_features & ~localq_cpu_features()) continue;
    if (write(*backend) == wanted) continue;
    printf("%s type %u depth %zu: other bytes under static scales\n", backend->name, layout.ggml_type, depth);
    ++wrong;
  }
  return wrong;
}

}  // namespace

// `cases` random shapes of every type, other ones for each seed.
bool check_products(size_t cases, uint64_t seed) {
  random_bits.seed(seed);
  Memory memory;
  int wrong = 0;
  for (const uint32_t type : kTypes) {
    const localq_strip_layout* layout = localq_strip_layout_of(type);
    for (size_t i = 0; i < cases && wrong < 20; ++i) {
      const Shape shape = random_shape(*layout);
      wrong += check_case(*layout, shape, memory) + check_static_inputs(*layout, shape, memory);
    }
  }
  printf("products: %s\n", wrong == 0 ? "ok" : "FAILED");
  return wrong == 0;
}
