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

struct Input {
  const int8_t* values;
  const float* scales;
  const int32_t* sums;
  const float* lows;
};

// total + products of a block that has one scale; minima of such blocks are multiplied with the input's lows.
template <class Layout>
float add_plain(const Block& block, const Input& input, size_t b, float total) {
  constexpr size_t weights = input_block(Layout::weights), inputs = Layout::weights / weights;
  const float scale = half_to_float(block.scale);
  float products = 0.0f;
  for (size_t i = 0; i < inputs; ++i) {
    const size_t at = b * inputs + i;
    int32_t sum = 0;
    for (size_t k = 0; k < weights; ++k) {
      sum += level<Layout>(block.codes[i * weights + k]) * input.values[at * weights + k];
    }
    products = inputs == 1 ? static_cast<float>(sum)
                           : __builtin_fmaf(static_cast<float>(sum), input.scales[at], products);
  }
  total = __builtin_fmaf(products, inputs == 1 ? scale * input.scales[b] : scale, total);
  return Layout::minimum ? __builtin_fmaf(input.lows[b], half_to_float(block.minimum), total) : total;
}

// total + products of a block that has scales, or minima too, of groups.
template <class Layout>
float add_grouped(const Block& block, const Input& input, size_t b, float total) {
  const int8_t* values = input.values + b * Layout::weights;
  float products = 0.0f, lows = 0.0f;
  for (size_t group = 0; group < Layout::groups; ++group) {
    int32_t sum = 0;
    for (size_t k = group * Layout::group; k < (group + 1) * Layout::group; ++k) {
      sum += level<Layout>(block.codes[k]) * values[k];
    }
    products = __builtin_fmaf(static_cast<float>(sum), static_cast<float>(block.scales[group]), products);
    const float low = static_cast<float>(input.sums[b * Layout::groups + group]);
    if (Layout::minima) lows = __builtin_fmaf(low, static_cast<float>(block.minima[group]), lows);
  }
  total = __builtin_fmaf(products, half_to_float(block.scale) * input.scales[b], total);
  return Layout::minimum ? __builtin_fmaf(lows, half_to_float(block.minimum) * input.scales[b], total) : total;
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
        const uint8_t* at = product->column[c].input;
        const Input input{reinterpret_cast<const int8_t*>(at), reinterpret_cast<const float*>(at + scales_at(depth)),
                          reinterpret_cast<const int32_t*>(
                              at + sums_at(depth, input_block(Layout::weights), Layout::group)),
                          reinterpret_cast<const float*>(at + lows_at(depth))};
        float& total = product->column[c].output[row];
        if constexpr (Layout::scales) {
          total = add_grouped<Layout>(block, input, b, total);
        } else {
          total = add_plain<Layout>(block, input, b, total);
        }
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

void localq::quantize_input_static_scalar(const float* values, const float* scales, const float* inverses,
                                          size_t depth, size_t block, uint8_t* input) {
  quantize_static(values, scales, inverses, depth, block, input);
}
