// Products of matrices in strips: what a file of an instruction set makes of the formats.
#pragma once

#include "localq_kernels.h"
#include "matmul/columns.h"
#include "matmul/formats.h"
#include "q1_0/one_column.h"

namespace {

constexpr size_t kMostColumns = 8;

// From so many columns on the codes of a strip are unfolded once, and then read for each.
constexpr size_t kUnfoldFrom = 16;

template <class Format>
void unfold_strip(const uint8_t* strip, size_t blocks, uint8_t* lines) {
  using Codes = typename Format::Codes;
  for (size_t block = 0; block < blocks; ++block, strip += Format::kBytes) {
    const Folded<Format> source{strip + Format::kCodes};
    for (size_t step = 0; step < Format::kSteps; ++step, lines += Codes::kLines * kLineBytes) {
      for (size_t part = 0; part < kStripRows / kPartLanes; ++part) {
        u8part codes[Codes::kLines];
        source.take(step, part, codes);
        for (size_t i = 0; i < Codes::kLines; ++i) store_bytes(lines + i * kLineBytes + part * kPartBytes, codes[i]);
      }
    }
  }
}

template <class Format, template <class> class Source, size_t columns = kMostColumns>
LOCALQ_INLINE void multiply_columns(const uint8_t* strip, const uint8_t* codes, size_t stride, size_t blocks,
                                    const Column* column, size_t count, size_t row, size_t rows) {
  for (; count >= columns; count -= columns, column += columns) {
    multiply_strip<Format, columns, Source>(strip, codes, stride, blocks, column, row, rows);
  }
  if constexpr (columns > 1) {
    multiply_columns<Format, Source, columns / 2>(strip, codes, stride, blocks, column, count, row, rows);
  }
}

// Contract: localq_multiply in localq_kernels.h.
template <class Format>
void multiply(const localq_product* product, size_t first_strip, size_t last_strip, uint8_t* workspace) {
  using Layout = typename Format::Layout;
  const size_t depth = product->depth, blocks = depth / Layout::weights, strip_bytes = blocks * Format::kBytes;
  constexpr size_t lines_bytes = Format::kSteps * Format::Codes::kLines * kLineBytes;
  constexpr size_t block = input_block(Layout::weights);
  Column* columns = reinterpret_cast<Column*>(workspace);
  uint8_t* lines = workspace + up_to_line(product->columns * sizeof(Column));
  for (size_t c = 0; c < product->columns; ++c) {
    const uint8_t* input = product->column[c].input;
    columns[c] = {reinterpret_cast<const int8_t*>(input), reinterpret_cast<const float*>(input + scales_at(depth)),
                  reinterpret_cast<const int32_t*>(input + sums_at(depth, block, Layout::group)),
                  reinterpret_cast<const float*>(input + lows_at(depth)), product->column[c].output};
  }
  const bool own_loop = OneColumn<Format>::kOwn && product->columns == 1;
  if constexpr (OneColumn<Format>::kOwn) {
    if (own_loop && !product->prepared) OneColumn<Format>::prepare(columns[0], depth, lines);
  }
  for (size_t strip = first_strip; strip < last_strip; ++strip) {
    const uint8_t* records = product->strips + strip * strip_bytes;
    const size_t row = strip * kStripRows, left = product->rows - row;
    const size_t rows = left < kStripRows ? left : kStripRows;
    if constexpr (OneColumn<Format>::kOwn) {
      if (own_loop) {
        OneColumn<Format>::multiply_strip(records, lines, blocks, columns[0], row, rows);
        continue;
      }
    }
    if (product->columns < kUnfoldFrom) {
      multiply_columns<Format, Folded>(records, records + Format::kCodes, Format::kBytes, blocks, columns,
                                       product->columns, row, rows);
    } else {
      unfold_strip<Format>(records, blocks, lines);
      multiply_columns<Format, Unfolded>(records, lines, lines_bytes, blocks, columns, product->columns, row, rows);
    }
  }
}

localq_multiply* find_product(uint32_t ggml_type) {
#define LOCALQ_PRODUCT(Format) \
  if (ggml_type == Format::Layout::type) return multiply<Format>;
  LOCALQ_STRIP_FORMATS(LOCALQ_PRODUCT)
#undef LOCALQ_PRODUCT
  return nullptr;
}

}  // namespace
