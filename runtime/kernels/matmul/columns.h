// A strip times columns: the one loop of all formats, instruction sets and numbers of columns.
//
// For each block column: integer sums of codes * input for each row, exact; then, always in this order, each
// operation rounded once,
//
//   without group scales   total += sum * (scale * input scale)
//                          total += minus the input's sum * (minimum * input scale)
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
  float* output;
};

// How far ahead of the codes that are multiplied the next ones are asked for.
constexpr size_t kAhead = 2048;

// Codes that are taken out of a record's lines.
template <class Format>
struct Folded {
  using Codes = typename Format::Codes;
  const uint8_t* at;

  LOCALQ_MEMBER void take(size_t step, size_t part, u8part (&codes)[Codes::kLines]) const {
    const uint8_t* lines = at + step * Codes::kBytes;
    if (part == 0) {
#pragma GCC unroll 16
      for (size_t i = 0; i < Codes::kBytes; i += kLineBytes) __builtin_prefetch(lines + kAhead + i);
    }
    Codes::decode(lines + part * kPartBytes, codes);
  }
};

// Codes that were unfolded before, a line for every four weights.
template <class Format>
struct Unfolded {
  using Codes = typename Format::Codes;
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

// Sums of level * input over `lines` lines of a block, the `number`-th such run; `group` counts the input's sums.
template <class Format, size_t lines, size_t columns, class Source>
LOCALQ_INLINE void sum_levels(const Source& source, size_t number, size_t part, const Column (&column)[columns],
                              size_t offset, size_t group, i32part (&sum)[columns]) {
  using Codes = typename Format::Codes;
  constexpr size_t together = lines < Codes::kLines ? lines : Codes::kLines;  // of a step's lines
  constexpr size_t chains = chains_of(lines, columns);
  i32part chain[columns][chains] = {};
#pragma GCC unroll 4
  for (size_t line = number * lines; line < number * lines + lines; line += together) {
    u8part codes[Codes::kLines];
    source.take(line / Codes::kLines, part, codes);
    const auto& taken = *reinterpret_cast<const u8part(*)[together]>(codes + line % Codes::kLines);
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) {
      add_products<Format::kHighest>(taken, column[c].values + offset + line * kLineWeights, chain[c]);
    }
  }
  // A level is code * step + lowest; of a wide code kWideShift is subtracted already.
  constexpr int lowest = Format::kLowest + (Format::kHighest > kHighestNarrow ? kWideShift : 0);
#pragma GCC unroll 8
  for (size_t c = 0; c < columns; ++c) {
    sum[c] = chain[c][0];
#pragma GCC unroll 4
    for (size_t i = 1; i < chains; ++i) sum[c] += chain[c][i];
    if constexpr (Format::Layout::step != 1) sum[c] *= Format::Layout::step;
    if constexpr (lowest != 0) sum[c] += (i32part{} + column[c].sums[group]) * -lowest;
  }
}

// total += the products of one block column.
template <class Format, size_t columns, class Source>
LOCALQ_INLINE void add_block(const uint8_t* record, const Source& source, size_t part,
                             const Column (&column)[columns], size_t block, f32part (&total)[columns]) {
  using Layout = typename Format::Layout;
  constexpr size_t groups = Layout::scales ? Layout::groups : 1;
  constexpr size_t lines = Format::kSteps * Format::Codes::kLines / groups;
  const size_t offset = block * Layout::weights, halves = 2 * part * kPartLanes;
  f32part products[columns] = {}, lows[columns] = {};
  if constexpr (!Layout::scales) {
    i32part sum[columns];
    sum_levels<Format, lines>(source, 0, part, column, offset, block, sum);
    for (size_t c = 0; c < columns; ++c) {
      products[c] = to_float(sum[c]);
      if (Layout::minimum) lows[c] = to_float(i32part{} + column[c].sums[block]);
    }
  } else {
    for (size_t quad = 0; quad < groups / kQuad; ++quad) {
      i32part scales[kQuad], minima[kQuad];
      Format::Groups::load(record + Format::kGroups, quad, part, scales, minima);
#pragma GCC unroll 4
      for (size_t i = 0; i < kQuad; ++i) {
        const size_t within = quad * kQuad + i, group = block * groups + within;
        i32part sum[columns];
        sum_levels<Format, lines>(source, within, part, column, offset, group, sum);
        const f32part scale = to_float(scales[i]);
#pragma GCC unroll 8
        for (size_t c = 0; c < columns; ++c) products[c] = multiply_add(to_float(sum[c]), scale, products[c]);
        if constexpr (Layout::minima) {
          const f32part minimum = to_float(minima[i]);
#pragma GCC unroll 8
          for (size_t c = 0; c < columns; ++c) {
            lows[c] = multiply_add(to_float(i32part{} + column[c].sums[group]), minimum, lows[c]);
          }
        }
      }
    }
  }
  const f32part scale = load_halves(record + halves);
#pragma GCC unroll 8
  for (size_t c = 0; c < columns; ++c) {
    total[c] = multiply_add(products[c], scale * all_part(column[c].scales[block]), total[c]);
  }
  if constexpr (Layout::minimum) {
    const f32part minimum = load_halves(record + Format::kMinimum + halves);
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) {
      total[c] = multiply_add(lows[c], minimum * all_part(column[c].scales[block]), total[c]);
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
