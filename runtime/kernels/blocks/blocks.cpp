// Packing and dequantizing of whole tensors, over the layouts of layouts.h.
#include <string.h>

#include "blocks/layouts.h"
#include "localq_kernels.h"

namespace {

template <class Layout>
float level(uint8_t code) {
  if constexpr (Layout::levels != nullptr) return Layout::levels[code];
  return static_cast<float>(code * Layout::step + Layout::lowest);
}

// Rounds after every operation, as quant/formats/format.py's Blocks says: this file has no contraction.
template <class Layout>
void dequantize(const uint8_t* data, size_t count, float* values) {
  Block block;
  for (; count > 0; --count, data += Layout::bytes) {
    Layout::unpack(data, block);
    const float scale = half_to_float(block.scale);
    const float minimum = Layout::minimum ? half_to_float(block.minimum) : 0.0f;
    for (size_t group = 0; group < Layout::groups; ++group, values += Layout::group) {
      const float group_scale = Layout::scales ? scale * static_cast<float>(block.scales[group]) : scale;
      const float group_minimum =
          Layout::minima ? minimum * static_cast<float>(block.minima[group]) : minimum;
      const uint8_t* codes = block.codes + group * Layout::group;
      for (size_t i = 0; i < Layout::group; ++i) {
        const float value = group_scale * level<Layout>(codes[i]);
        values[i] = Layout::minimum ? value - group_minimum : value;
      }
    }
  }
}

template <class Layout>
void pack(const localq_blocks& blocks, size_t count, uint8_t* data) {
  Block block;
  for (size_t i = 0; i < count; ++i, data += Layout::bytes) {
    memcpy(block.codes, blocks.codes + i * Layout::weights, Layout::weights);
    block.scale = blocks.scale[i];
    if (Layout::minimum) block.minimum = blocks.minimum[i];
    if (Layout::scales) memcpy(block.scales, blocks.scales + i * Layout::groups, Layout::groups);
    if (Layout::minima) memcpy(block.minima, blocks.minima + i * Layout::groups, Layout::groups);
    Layout::pack(block, data);
  }
}

struct Entry {
  localq_block_layout layout;
  void (*pack)(const localq_blocks&, size_t, uint8_t*);
  void (*dequantize)(const uint8_t*, size_t, float*);
};

template <class Layout>
constexpr Entry entry() {
  return {{Layout::type, Layout::weights, Layout::bytes, Layout::groups, Layout::minimum, Layout::scales,
           Layout::minima},
          pack<Layout>,
          dequantize<Layout>};
}

constexpr Entry kEntries[] = {
    entry<Q1_0>(),  entry<Tq1_0>(), entry<Tq2_0>(), entry<Q2_0>(), entry<Q2K>(),  entry<Q3K>(),
    entry<Iq4Xs>(), entry<Q4_0>(),  entry<Iq4Nl>(), entry<Q4K>(),  entry<Q4_1>(), entry<Q5_0>(),
    entry<Q5K>(),   entry<Q5_1>(),  entry<Q6K>(),   entry<Q8_0>(),
};

const Entry* find(uint32_t ggml_type) {
  for (const Entry& known : kEntries) {
    if (known.layout.ggml_type == ggml_type) return &known;
  }
  return nullptr;
}

}  // namespace

const localq_block_layout* localq_block_layout_of(uint32_t ggml_type) {
  const Entry* known = find(ggml_type);
  return known ? &known->layout : nullptr;
}

bool localq_pack_blocks(uint32_t ggml_type, const localq_blocks* blocks, size_t count, uint8_t* data) {
  const Entry* known = find(ggml_type);
  if (known) known->pack(*blocks, count, data);
  return known != nullptr;
}

bool localq_dequantize_blocks(uint32_t ggml_type, const uint8_t* data, size_t count, float* values) {
  const Entry* known = find(ggml_type);
  if (known) known->dequantize(data, count, values);
  return known != nullptr;
}
