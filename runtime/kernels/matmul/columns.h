// A strip times columns: the one loop of all formats, instruction sets and numbers of columns.
//
// For each block column: integer sums of codes * input for each row, exact; then, always in this order, each
// operation rounded once,
//
//   without group scales   total += sum * (scale * input scale)
//                          total += the input's low * minimum
//   more input blocks      products += sum * input scale;  total += products * scale
//   with group scales      products += sum * group scale;  lows += minus the input's sum * group minimum
//                          total += products * (scale * input scale);  total += lows * (minimum * input scale)
//
// so that a result depends neither on the instruction set nor on how many columns are multiplied at once.
#pragma once

#include "matmul/codes.h"
#include "matmul/groups.h"
#include "matmul/input.h"

namespace {

// A column's input, with the sums of the format's groups, and where its results go.
struct Column {
  const int8_t* values;
  const float* scales;
  const int32_t* sums;
  const float* lows;  // of inputs with blocks of 32
  float* output;
};

// How far ahead of the codes that are multiplied the next ones are asked for: what memory gives one thread in the time
// that it takes to answer.
constexpr size_t kAhead = 4096;

// Codes that are taken out of a record's lines.
template <class Format>
struct Folded {
  using Codes = typename Format::Codes;
  static constexpr bool kFolded = true;
  const uint8_t* at;

  LOCALQ_MEMBER const uint8_t* lines(size_t step, size_t part) const {
    const uint8_t* found = at + step * Codes::kBytes;
    if (part == 0) {
#pragma GCC unroll 16
      for (size_t i = 0; i < Codes::kBytes; i += kLineBytes) __builtin_prefetch(found + kAhead + i);
    }
    return found + part * kPartBytes;
  }
  LOCALQ_MEMBER void take(size_t step, size_t part, u8part (&codes)[Codes::kLines]) const {
    Codes::decode(lines(step, part), codes);
  }
};

// Codes that were unfolded before, a line for every four weights.
template <class Format>
struct Unfolded {
  using Codes = typename Format::Codes;
  static constexpr bool kFolded = false;
  const uint8_t* at;

  LOCALQ_MEMBER void take(size_t step, size_t part, u8part (&codes)[Codes::kLines]) const {
    const uint8_t* lines = at + step * Codes::kLines * kLineBytes + part * kPartBytes;
#pragma GCC unroll 16
    for (size_t i = 0; i < Codes::kLines; ++i) codes[i] = load_bytes(lines + i * kLineBytes);
  }
};

// Chains of additions of a column: enough in all to keep the multipliers busy.
constexpr size_t chains_of(size_t lines, size_t columns) {
  const size_t wanted = columns == 1 ? (lines >= 16 ? 4 : 2) : columns == 2 ? 2 : 1;
  return wanted < kMostChains ? wanted : kMostChains;
}

// Sums of code * input over `lines` lines of a block from `first` on, whole steps or, from its line `from` on, a part
// of one. `offset`: where the block's input begins.
template <class Format, size_t lines, size_t from, size_t columns, class Source>
LOCALQ_INLINE void sum_codes(const Source& source, size_t first, size_t part, const Column (&column)[columns],
                             size_t offset, i32part (&sum)[columns]) {
  using Codes = typename Format::Codes;
  constexpr size_t together = lines < Codes::kLines ? lines : Codes::kLines;
  constexpr size_t chains = chains_of(lines, columns);
  i32part chain[columns][chains] = {};
#pragma GCC unroll 4
  for (size_t line = first; line < first + lines; line += together) {
    u8part codes[Codes::kLines], taken[together];
    source.take(line / Codes::kLines, part, codes);
#pragma GCC unroll 16
    for (size_t i = 0; i < together; ++i) taken[i] = codes[from + i];
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) {
      add_products<Format::kHighest>(taken, column[c].values + offset + line * kLineWeights, chain[c]);
    }
  }
#pragma GCC unroll 8
  for (size_t c = 0; c < columns; ++c) {
    sum[c] = chain[c][0];
#pragma GCC unroll 4
    for (size_t i = 1; i < chains; ++i) sum[c] += chain[c][i];
  }
}

// The same of a whole block whose codes are digits of fractions (tq1_0/strip.h), which are not taken out.
template <class Format, size_t columns, class Source>
LOCALQ_INLINE void sum_fractions(const Source& source, size_t part, const Column (&column)[columns], size_t offset,
                                 i32part (&sum)[columns]) {
  using Codes = typename Format::Codes;
  i32part chain[columns][Codes::kChains] = {};
  for (size_t step = 0; step < Format::kSteps; ++step) {
    const uint8_t* lines = source.lines(step, part);
#pragma GCC unroll 2
    for (size_t c = 0; c < columns; ++c) {
      Codes::add_fractions(lines, column[c].values + offset + step * Codes::kLines * kLineWeights, chain[c]);
    }
  }
  for (size_t c = 0; c < columns; ++c) sum[c] = Codes::sum_of_digits(chain[c]);
}

// Sums of level * input as sum_codes has them of codes; `group` counts the input's sums.
template <class Format, size_t lines, size_t from, size_t columns, class Source>
LOCALQ_INLINE void sum_levels(const Source& source, size_t first, size_t part, const Column (&column)[columns],
                              size_t offset, size_t group, i32part (&sum)[columns]) {
  if constexpr (Format::Codes::kFractions && Source::kFolded && columns <= 2) {
    sum_fractions<Format>(source, part, column, offset, sum);
  } else {
    sum_codes<Format, lines, from>(source, first, part, column, offset, sum);
  }
  // A level is code * step + lowest; of a wide code kWideShift is subtracted already.
  constexpr int lowest = Format::kLowest + (Format::kHighest > kHighestNarrow ? kWideShift : 0);
#pragma GCC unroll 8
  for (size_t c = 0; c < columns; ++c) {
    if constexpr (Format::Layout::step != 1) sum[c] *= Format::Layout::step;
    if constexpr (lowest != 0) sum[c] += (i32part{} + column[c].sums[group]) * -lowest;
  }
}

// What the groups of a block add up to, before the block's scale and minimum.
template <size_t columns>
struct Products {
  f32part products[columns] = {}, lows[columns] = {};

  LOCALQ_MEMBER void add(const i32part (&sum)[columns], i32part scale) {
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) products[c] = multiply_add(to_float(sum[c]), to_float(scale), products[c]);
  }
  LOCALQ_MEMBER void add_lows(const Column (&column)[columns], size_t group, i32part minimum) {
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) {
      lows[c] = multiply_add(to_float(i32part{} + column[c].sums[group]), to_float(minimum), lows[c]);
    }
  }
};

// A group of a block with group scales, and with the ones behind it those that share its step.
template <class Format, size_t from = 0, size_t columns, class Source>
LOCALQ_INLINE void add_groups(const Source& source, size_t within, size_t part, const Column (&column)[columns],
                              size_t block, const i32part* scales, const i32part* minima, Products<columns>& result) {
  using Layout = typename Format::Layout;
  constexpr size_t lines = Layout::group / kLineWeights;
  const size_t group = block * Layout::groups + within;
  i32part sum[columns];
  sum_levels<Format, lines, from>(source, within * lines, part, column, block * Layout::weights, group, sum);
  result.add(sum, *scales);
  if constexpr (Layout::minima) result.add_lows(column, group, *minima);
  if constexpr (from + lines < Format::Codes::kLines) {
    add_groups<Format, from + lines>(source, within + 1, part, column, block, scales + 1, minima + 1, result);
  }
}

// A block with one scale: the sum where the input has one scale for it too, else what its blocks add up to.
template <class Format, size_t columns, class Source>
LOCALQ_INLINE void add_plain(const Source& source, size_t part, const Column (&column)[columns], size_t block,
                             Products<columns>& result) {
  using Layout = typename Format::Layout;
  using Codes = typename Format::Codes;
  constexpr size_t weights = Layout::weights, inputs = weights / input_block(weights);
  constexpr size_t lines = inputs > 1 ? weights / inputs / kLineWeights : Format::kSteps * Codes::kLines;
#pragma GCC unroll 4
  for (size_t i = 0; i < inputs; ++i) {
    const size_t at = block * inputs + i;
    i32part sum[columns];
    sum_levels<Format, lines, 0>(source, i * lines, part, column, block * weights, at, sum);
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) {
      const f32part products = to_float(sum[c]);
      result.products[c] =
          inputs == 1 ? products : multiply_add(products, all_part(column[c].scales[at]), result.products[c]);
    }
  }
}

// total += the products of one block column.
template <class Format, size_t columns, class Source>
LOCALQ_INLINE void add_block(const uint8_t* record, const Source& source, size_t part,
                             const Column (&column)[columns], size_t block, f32part (&total)[columns]) {
  using Layout = typename Format::Layout;
  using Codes = typename Format::Codes;
  Products<columns> result;
  if constexpr (Layout::scales) {
    constexpr size_t group_lines = Layout::group / kLineWeights;
    constexpr size_t together = group_lines < Codes::kLines ? Codes::kLines / group_lines : 1;
    for (size_t quad = 0; quad < Layout::groups / kQuad; ++quad) {
      i32part scales[kQuad], minima[kQuad];
      Format::Groups::load(record + Format::kGroups, quad, part, scales, minima);
#pragma GCC unroll 4
      for (size_t i = 0; i < kQuad; i += together) {
        add_groups<Format>(source, quad * kQuad + i, part, column, block, scales + i, minima + i, result);
      }
    }
  } else {
    add_plain<Format>(source, part, column, block, result);
  }
  const uint8_t* halves = record + 2 * part * kPartLanes;
  const f32part scale = load_halves(halves);
  constexpr bool one_scale = input_block(Layout::weights) == Layout::weights;
#pragma GCC unroll 8
  for (size_t c = 0; c < columns; ++c) {
    const f32part factor = one_scale ? scale * all_part(column[c].scales[block]) : scale;
    total[c] = multiply_add(result.products[c], factor, total[c]);
  }
  if constexpr (Layout::minimum) {
    const f32part minimum = load_halves(halves + Format::kMinimum);
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) {
      if constexpr (Layout::minima) {
        total[c] = multiply_add(result.lows[c], minimum * all_part(column[c].scales[block]), total[c]);
      } else {
        total[c] = multiply_add(all_part(column[c].lows[block]), minimum, total[c]);
      }
    }
  }
}

// The first `rows` results of a strip for each column. Not inlined: each is a loop of its own.
template <class Format, size_t columns, template <class> class Source>
__attribute__((noinline)) void multiply_strip(const uint8_t* strip, const uint8_t* codes, size_t codes_stride,
                                              size_t blocks, const Column* first, size_t row, size_t rows) {
  Column column[columns];
  for (size_t c = 0; c < columns; ++c) column[c] = first[c];
  constexpr size_t parts = kStripRows / kPartLanes;
  f32part total[parts][columns] = {};
  for (size_t block = 0; block < blocks; ++block) {
    const Source<Format> source{codes + block * codes_stride};
#pragma GCC unroll 4
    for (size_t part = 0; part < parts; ++part) {
      add_block<Format>(strip + block * Format::kBytes, source, part, column, block, total[part]);
    }
  }
  for (size_t c = 0; c < columns; ++c) {
    float results[kStripRows];
    float* to = rows == kStripRows ? column[c].output + row : results;
    for (size_t part = 0; part < parts; ++part) store_part(to + part * kPartLanes, total[part][c]);
    for (size_t i = 0; i < rows && rows < kStripRows; ++i) column[c].output[row + i] = results[i];
  }
}

}  // namespace
