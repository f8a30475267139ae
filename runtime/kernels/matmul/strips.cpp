// Packing of matrices into strips, and rows out of them: contracts in localq_kernels.h.
#include "localq_kernels.h"

#include "matmul/formats.h"
#include "matmul/input.h"

namespace {

// How far ahead of a block its row is asked for: sixteen rows are more streams than processors follow by themselves.
constexpr size_t kAhead = 256;

// Blocks of the rows of a strip, of which the first `count` are there, -> a record. `stride`: bytes of a row.
template <class Format>
void pack_blocks(const uint8_t* first, size_t stride, size_t count, uint8_t* record) {
  Block unpacked[kStripRows];
  for (size_t row = 0; row < kStripRows; ++row) {
    if (row < count) {
      __builtin_prefetch(first + row * stride + kAhead);
      Format::Layout::unpack(first + row * stride, unpacked[row]);
    } else {
      unpacked[row] = Block{};
    }
  }
  pack_record<Format>(unpacked, record);
}

// Q8_0's bytes are codes but for a bit, and lines as soon as they are interleaved: nothing to take out or to fold.
template <>
void pack_blocks<Q8_0Strip>(const uint8_t* first, size_t stride, size_t count, uint8_t* record) {
  static constexpr uint8_t kNothing[Q8_0::bytes] = {};
  for (size_t row = 0; row < kStripRows; row += 4) {
    const uint8_t* codes[4];
    for (size_t i = 0; i < 4; ++i) {
      const uint8_t* block = row + i < count ? first + (row + i) * stride : kNothing;
      __builtin_prefetch(block + kAhead);
      __builtin_memcpy(record + 2 * (row + i), block, 2);
      codes[i] = block + 2;
    }
    for (size_t k = 0; k < Q8_0::weights; k += 16) {
      interleave<0x80>(codes, k, record + Q8_0Strip::kCodes + k * kStripRows + row * kLineWeights);
    }
  }
}

template <class Format>
void pack(const uint8_t* rows, size_t row_count, size_t depth, size_t first_strip, size_t last_strip,
          uint8_t* strips) {
  using Layout = typename Format::Layout;
  const size_t blocks = depth / Layout::weights, row_bytes = blocks * Layout::bytes;
  uint8_t* record = strips + first_strip * blocks * Format::kBytes;
  for (size_t strip = first_strip; strip < last_strip; ++strip) {
    const size_t row = strip * kStripRows, count = row_count - row < kStripRows ? row_count - row : kStripRows;
    const uint8_t* first = rows + row * row_bytes;
    for (size_t b = 0; b < blocks; ++b, first += Layout::bytes, record += Format::kBytes) {
      pack_blocks<Format>(first, row_bytes, count, record);
    }
  }
}

template <class Format>
void unpack(const uint8_t* strips, size_t depth, size_t row, uint8_t* data) {
  using Layout = typename Format::Layout;
  const size_t blocks = depth / Layout::weights;
  const uint8_t* record = strips + row / kStripRows * blocks * Format::kBytes;
  for (size_t b = 0; b < blocks; ++b, record += Format::kBytes, data += Layout::bytes) {
    uint8_t lines[Format::kSteps * Format::Codes::kLines * kLineBytes];
    Block block{};
    unfold_codes<Format>(record, lines);
    unpack_block<Format>(record, lines, row % kStripRows, block);
    Layout::pack(block, data);
  }
}

struct Entry {
  localq_strip_layout layout;
  void (*pack)(const uint8_t*, size_t, size_t, size_t, size_t, uint8_t*);
  void (*unpack)(const uint8_t*, size_t, size_t, uint8_t*);
};

const Entry kEntries[] = {
#define LOCALQ_ENTRY(Format)                                                                                  \
  {{Format::Layout::type, Format::Layout::weights, Format::Layout::bytes,                                     \
    Format::kSteps * Format::Codes::kLines * kLineBytes},                                                     \
   pack<Format>,                                                                                              \
   unpack<Format>},
    LOCALQ_STRIP_FORMATS(LOCALQ_ENTRY)
#undef LOCALQ_ENTRY
};

const Entry* find(uint32_t ggml_type) {
  for (const Entry& known : kEntries) {
    if (known.layout.ggml_type == ggml_type) return &known;
  }
  return nullptr;
}

}  // namespace

const localq_strip_layout* localq_strip_layout_of(uint32_t ggml_type) {
  const Entry* known = find(ggml_type);
  return known ? &known->layout : nullptr;
}

bool localq_pack_strips(uint32_t ggml_type, const uint8_t* rows, size_t row_count, size_t depth, size_t first_strip,
                        size_t last_strip, uint8_t* strips) {
  const Entry* known = find(ggml_type);
  if (known) known->pack(rows, row_count, depth, first_strip, last_strip, strips);
  return known != nullptr;
}

bool localq_unpack_row(uint32_t ggml_type, const uint8_t* strips, size_t depth, size_t row, uint8_t* data) {
  const Entry* known = find(ggml_type);
  if (known) known->unpack(strips, depth, row, data);
  return known != nullptr;
}

size_t localq_input_bytes(size_t depth, size_t block) { return input_bytes(depth, input_block(block)); }

size_t localq_workspace_bytes(const localq_strip_layout* layout, size_t depth, size_t columns) {
  constexpr size_t column_bytes = 5 * sizeof(void*);  // as matmul.h keeps them
  return up_to_line(columns * column_bytes) + depth / layout->weights * layout->line_bytes;
}
