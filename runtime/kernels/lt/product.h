// A strip of an LT matrix times columns: the one loop of all formats, instruction sets and numbers of columns.
//
// For each block of the input: integer sums of table value * byte for each row, exact; then
//
//   total += sum * the block's scale        and behind the last block        result = row scale * total
//
// each rounded once, so that a result depends neither on the instruction set nor on how many columns are multiplied at
// once.
#pragma once

#include "localq_kernels.h"
#include "lt/codes.h"

namespace {

struct LtColumn {
  const int8_t* values;
  const float* scales;
  const int32_t* sums;
  float* output;
};

constexpr size_t kLtParts = kLtLine / kPartBytes, kLtLines = 4;
constexpr size_t kLtMostColumns = 8;
// From so many columns on the codes of a strip are unfolded once, and then read for each.
constexpr size_t kLtUnfoldFrom = 16;
// How far ahead codes are asked for (matmul/columns.h).
constexpr size_t kLtAhead = 4096;
// Sums that registers hold beside all else.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr size_t kLtSums = 16;
#else
constexpr size_t kLtSums = 8;
#endif

// Codes that are taken out of a strip's lines and looked up.
template <class Codes>
struct LtFolded {
  static constexpr unsigned state_bits = Codes::state_bits;
  static constexpr size_t kStepBytes = Codes::bits * kLtLine;
  const uint8_t* codes;
  LookUp<state_bits> look_up;

  template <unsigned group, unsigned q>
  LOCALQ_MEMBER u8part take(const uint8_t* step) const {
    return look_up(Codes::template take<group, q>(step));
  }
};

// Values that were looked up before: of a step four lines for each four columns.
template <class Codes>
struct LtUnfolded {
  static constexpr unsigned state_bits = Codes::state_bits;
  static constexpr size_t kStepBytes = kLtStep * kLtLine;
  const uint8_t* codes;

  template <unsigned group, unsigned q>
  LOCALQ_MEMBER u8part take(const uint8_t* step) const {
    return load_bytes(step + (group * kLtLines + q) * kLtLine);
  }
};

// Lines [first, first + count) of a register's rows times the columns.
template <class Source, size_t columns, unsigned first, unsigned count>
struct LtSums {
  // an addition waits for the one before it in its chain
  static constexpr size_t kChains = kMostChains > 1 && columns == 1 ? 2 : 1;
  i32part sum[count][columns][kChains];

  LOCALQ_MEMBER void start(const LtColumn (&column)[columns], size_t block) {
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) {
      const i32part shifted = i32part{} + column[c].sums[block] * kLtShift<Source::state_bits>;
#pragma GCC unroll 4
      for (size_t r = 0; r < count; ++r) {
        sum[r][c][0] = shifted;
        if constexpr (kChains > 1) sum[r][c][1] = i32part{};
      }
    }
  }
  template <unsigned group, unsigned r = 0>
  LOCALQ_MEMBER void add(const Source& source, const uint8_t* step, const LtColumn (&column)[columns], size_t at) {
    const u8part values = source.template take<group, first + r>(step);
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) {
      i32part& chain = sum[r][c][group % kChains];
      chain = lt_dot<Source::state_bits>(chain, values, column[c].values + at + 4 * group);
    }
    if constexpr (r + 1 < count) add<group, r + 1>(source, step, column, at);
  }
  LOCALQ_MEMBER i32part result(size_t r, size_t c) const {
    return kChains > 1 ? sum[r][c][0] + sum[r][c][kChains - 1] : sum[r][c][0];
  }
};

// total [lines, columns] += the products of a block of `size` columns, from line `first` on, as many lines at once as
// there are registers for.
template <class Source, size_t columns, unsigned first = 0>
LOCALQ_INLINE void add_block(const Source& source, size_t part, const LtColumn (&column)[columns], size_t block,
                             size_t size, f32part (&total)[kLtLines][columns]) {
  constexpr unsigned most = static_cast<unsigned>(kLtSums / columns), count = most < kLtLines ? most : kLtLines;
  LtSums<Source, columns, first, count> sums;
  sums.start(column, block);
  const uint8_t* step = source.codes + block * (size / kLtStep) * Source::kStepBytes + part * kPartBytes;
  const uint8_t* const end = step + size / kLtStep * Source::kStepBytes;
  for (size_t at = block * size; step != end; step += Source::kStepBytes, at += kLtStep) {
    if (first == 0 && part == 0) {
#pragma GCC unroll 8
      for (size_t i = 0; i < Source::kStepBytes; i += kLtLine) __builtin_prefetch(step + kLtAhead + i);
    }
    sums.template add<0>(source, step, column, at);
    sums.template add<1>(source, step, column, at);
  }
#pragma GCC unroll 8
  for (size_t c = 0; c < columns; ++c) {
    const f32part scale = all_part(column[c].scales[block]);
#pragma GCC unroll 4
    for (size_t r = 0; r < count; ++r) {
      total[first + r][c] = multiply_add(to_float(sums.result(r, c)), scale, total[first + r][c]);
    }
  }
  if constexpr (first + count < kLtLines) add_block<Source, columns, first + count>(source, part, column, block, size, total);
}

// Rows of one column from where the lines have them: pairs of rows lie in lanes 2j, 2j + 1 of line q.
LOCALQ_INLINE void in_order(const float (&lines)[kLtParts][kLtLines][kPartLanes], float* rows) {
  for (size_t part = 0; part < kLtParts; ++part) {
    for (size_t j = 0; j < kPartLanes / 2; ++j) {
      for (size_t q = 0; q < kLtLines; ++q, rows += 2) __builtin_memcpy(rows, lines[part][q] + 2 * j, 2 * sizeof(float));
    }
  }
}

// The first `rows` results of a strip for each column. Not inlined: each is a loop of its own.
template <class Source, size_t columns>
__attribute__((noinline)) void multiply_strip(const uint8_t* scales, const Source& source, size_t depth,
                                              const LtColumn* first, size_t row, size_t rows) {
  LtColumn column[columns];
  for (size_t c = 0; c < columns; ++c) column[c] = first[c];
  const size_t size = lt_block(depth), blocks = depth / size;
  f32part total[kLtParts][kLtLines][columns] = {};
  const Source own = source;
  for (size_t block = 0; block < blocks; ++block) {
#pragma GCC unroll 4
    for (size_t part = 0; part < kLtParts; ++part) add_block(own, part, column, block, size, total[part]);
  }
  for (size_t c = 0; c < columns; ++c) {
    float lines[kLtParts][kLtLines][kPartLanes], results[kLtRows];
    for (size_t part = 0; part < kLtParts; ++part) {
      for (size_t q = 0; q < kLtLines; ++q) store_part(lines[part][q], total[part][q][c]);
    }
    in_order(lines, results);
    for (size_t i = 0; i < kLtRows; i += kPartLanes) {
      store_part(results + i, load_part(results + i) * load_halves(scales + 2 * i));
    }
    __builtin_memcpy(column[c].output + row, results, rows * sizeof(float));
  }
}

template <class Source, size_t columns = kLtMostColumns>
LOCALQ_INLINE void multiply_columns(const uint8_t* scales, const Source& source, size_t depth, const LtColumn* column,
                                    size_t count, size_t row, size_t rows) {
  for (; count >= columns; count -= columns, column += columns) {
    multiply_strip<Source, columns>(scales, source, depth, column, row, rows);
  }
  if constexpr (columns > 1) {
    multiply_columns<Source, columns / 2>(scales, source, depth, column, count, row, rows);
  }
}

template <class Codes, unsigned group = 0, unsigned q = 0>
LOCALQ_INLINE void unfold_step(const LtFolded<Codes>& source, const uint8_t* step, uint8_t* values) {
  store_bytes(values + (group * kLtLines + q) * kLtLine, source.template take<group, q>(step));
  if constexpr (q + 1 < kLtLines) {
    unfold_step<Codes, group, q + 1>(source, step, values);
  } else if constexpr (group == 0) {
    unfold_step<Codes, 1, 0>(source, step, values);
  }
}

template <class Codes>
__attribute__((noinline)) void unfold_strip(const LtFolded<Codes>& source, size_t depth, uint8_t* values) {
  const LtFolded<Codes> own = source;
  for (size_t step = 0; step < depth / kLtStep; ++step, values += kLtStep * kLtLine) {
    for (size_t part = 0; part < kLtParts; ++part) {
      unfold_step<Codes>(own, own.codes + step * own.kStepBytes + part * kPartBytes, values + part * kPartBytes);
    }
  }
}

// Contract: localq_multiply in localq_kernels.h.
template <class Codes>
void lt_multiply(const localq_product* product, size_t first_strip, size_t last_strip, uint8_t* workspace) {
  const size_t depth = product->depth, strip_bytes = lt_strip_bytes(Codes::bits, depth);
  LtColumn* columns = reinterpret_cast<LtColumn*>(workspace);
  uint8_t* values = workspace + (product->columns * sizeof(LtColumn) + 63) / 64 * 64;
  for (size_t c = 0; c < product->columns; ++c) {
    const uint8_t* input = product->column[c].input;
    columns[c] = {reinterpret_cast<const int8_t*>(input), reinterpret_cast<const float*>(input + lt_scales_at(depth)),
                  reinterpret_cast<const int32_t*>(input + lt_sums_at(depth)), product->column[c].output};
  }
  LtTable table;
  prepare<Codes>(product->table, table);
  for (size_t strip = first_strip; strip < last_strip; ++strip) {
    const uint8_t* scales = product->strips + strip * strip_bytes;
    const size_t row = strip * kLtRows, left = product->rows - row, rows = left < kLtRows ? left : kLtRows;
    const LtFolded<Codes> folded{scales + kLtScales, LookUp<Codes::state_bits>(table)};
    if (product->columns < kLtUnfoldFrom) {
      multiply_columns(scales, folded, depth, columns, product->columns, row, rows);
    } else {
      unfold_strip(folded, depth, values);
      multiply_columns(scales, LtUnfolded<Codes>{values}, depth, columns, product->columns, row, rows);
    }
  }
}

template <unsigned state_bits>
localq_multiply* find_lt(uint32_t bits) {
  switch (bits) {
    case 1: return lt_multiply<LtCodes<1, state_bits>>;
    case 2: return lt_multiply<LtCodes<2, state_bits>>;
    case 3: return lt_multiply<LtCodes<3, state_bits>>;
    case 4: return lt_multiply<LtCodes<4, state_bits>>;
    default: return nullptr;
  }
}

localq_multiply* find_lt_product(uint32_t bits, uint32_t state_bits) {
  switch (state_bits) {
    case 4: return find_lt<4>(bits);
    case 6: return find_lt<6>(bits);
    case 8: return find_lt<8>(bits);
    default: return nullptr;
  }
}

}  // namespace
