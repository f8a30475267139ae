// The reference of all products: plain loops over unpacked blocks, compiled without auto-vectorisation.
#include "kernels.h"

#include "matmul/formats.h"
#include "matmul/input.h"

namespace {

template <class Layout>
int level(uint8_t code) {
  if constexpr (Layout::levels != nullptr) return static_cast<int>(Layout::levels[code]);
  return code * Layout::step + Layout::lowest;
}

struct Sums {
  float products, lows;
};

template <class Layout>
Sums sum_block(const Block& block, const int8_t* values, const int32_t* sums) {
  Sums result{0.0f, 0.0f};
  for (size_t group = 0; group < Layout::groups; ++group) {
    int32_t sum = 0;
    for (size_t k = group * Layout::group; k < (group + 1) * Layout::group; ++k) {
      sum += level<Layout>(block.codes[k]) * values[k];
    }
    const float scale = Layout::scales ? static_cast<float>(block.scales[group]) : 1.0f;
    const float minimum = Layout::minima ? static_cast<float>(block.minima[group]) : 1.0f;
    result.products = __builtin_fmaf(static_cast<float>(sum), scale, result.products);
    result.lows = __builtin_fmaf(static_cast<float>(sums[group]), minimum, result.lows);
  }
  return result;
}

template <class Format>
void multiply_reference(const localq_product* product, size_t first_strip, size_t last_strip, uint8_t*) {
  using Layout = typename Format::Layout;
  const size_t depth = product->depth, blocks = depth / Layout::weights;
  for (size_t row = first_strip * kStripRows; row < last_strip * kStripRows && row < product->rows; ++row) {
    for (size_t c = 0; c < product->columns; ++c) product->column[c].output[row] = 0.0f;
    for (size_t b = 0; b < blocks; ++b) {
      const uint8_t* record = product->strips + (row / kStripRows * blocks + b) * Format::kBytes;
      uint8_t lines[Format::kSteps * Format::Codes::kLines * kLineBytes];
      Block block{};
      unfold_codes<Format>(record, lines);
      unpack_block<Format>(record, lines, row % kStripRows, block);
      for (size_t c = 0; c < product->columns; ++c) {
        const uint8_t* input = product->column[c].input;
        const float input_scale = reinterpret_cast<const float*>(input + scales_at(depth))[b];
        const int32_t* sums =
            reinterpret_cast<const int32_t*>(input + sums_at(depth, Layout::weights, Layout::group));
        const Sums sum = sum_block<Layout>(block, reinterpret_cast<const int8_t*>(input) + b * Layout::weights,
                                           sums + b * Layout::groups);
        float& total = product->column[c].output[row];
        total = __builtin_fmaf(sum.products, half_to_float(block.scale) * input_scale, total);
        if (Layout::minimum) total = __builtin_fmaf(sum.lows, half_to_float(block.minimum) * input_scale, total);
      }
    }
  }
}

}  // namespace

localq_multiply* localq::multiply_of_scalar(uint32_t ggml_type) {
#define LOCALQ_PRODUCT(Format) \
  if (ggml_type == Format::Layout::type) return multiply_reference<Format>;
  LOCALQ_STRIP_FORMATS(LOCALQ_PRODUCT)
#undef LOCALQ_PRODUCT
  return nullptr;
}

void localq::quantize_input_scalar(const float* values, size_t depth, size_t block, uint8_t* input) {
  quantize(values, depth, block, input);
}
