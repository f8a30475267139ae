// Strips: sixteen rows of a matrix, interleaved, so that a product reads one sequential stream and adds nothing
// across lanes.
//
// A record is a strip's share of one block column: the blocks of sixteen rows, in as many bytes as in a file.
//
//   halves   scale of each row, then minimum of each row where the format has one
//   groups   scales and minima of groups within the block: groups.h
//   codes    lines of 64 bytes, four consecutive weights of each row beside each other: codes.h
//
// A strip is the records of all block columns; rows that the last strip lacks have scale 0 and codes 0.
#pragma once

#include "blocks/layouts.h"

namespace {

constexpr size_t kStripRows = 16, kLineBytes = 64, kLineWeights = 4;

// What a format is to the products: a layout of blocks.h, how its codes fold into lines and its group scales into
// bytes. kHighest is the highest code as it is multiplied, kLowest the level of code 0.
template <class Layout_, class Codes_, class Groups_>
struct StripFormat {
  using Layout = Layout_;
  using Codes = Codes_;
  using Groups = Groups_;

  static constexpr size_t kMinimum = 2 * kStripRows;
  static constexpr size_t kGroups = kMinimum + (Layout::minimum ? 2 * kStripRows : 0);
  static constexpr size_t kCodes = kGroups + Groups::kBytes;
  static constexpr size_t kBytes = kStripRows * Layout::bytes;
  static constexpr size_t kSteps = (Layout::weights / kLineWeights + Codes::kLines - 1) / Codes::kLines;
  static_assert(kCodes + kSteps * Codes::kBytes == kBytes, "a record takes as many bytes as its blocks");

  static constexpr unsigned kHighest = Codes::kHighest;
  static constexpr int kLowest = Codes::kLowest != 0 ? Codes::kLowest : Layout::lowest;
};

typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef u32x4 u32x4_any __attribute__((aligned(1), may_alias));

// Sixteen codes of four rows, from `at` on, some bits turned -> the rows' share of four lines, at `lines`.
template <uint32_t turned = 0>
void interleave(const uint8_t* const (&rows)[4], size_t at, uint8_t* lines) {
  const auto codes = [&](size_t row) {
    return *reinterpret_cast<const u32x4_any*>(rows[row] + at) ^ turned * 0x01010101;
  };
  const u32x4 a = codes(0), b = codes(1), c = codes(2), d = codes(3);
  const u32x4 low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, first = {0, 1, 4, 5}, second = {2, 3, 6, 7};
  const u32x4 ab[2] = {__builtin_shuffle(a, b, low), __builtin_shuffle(a, b, high)};
  const u32x4 cd[2] = {__builtin_shuffle(c, d, low), __builtin_shuffle(c, d, high)};
  for (size_t i = 0; i < 2; ++i, lines += 2 * kLineBytes) {
    *reinterpret_cast<u32x4_any*>(lines) = __builtin_shuffle(ab[i], cd[i], first);
    *reinterpret_cast<u32x4_any*>(lines + kLineBytes) = __builtin_shuffle(ab[i], cd[i], second);
  }
}

// Blocks of sixteen rows -> a record.
template <class Format>
void pack_record(const Block (&blocks)[kStripRows], uint8_t* record) {
  using Layout = typename Format::Layout;
  using Codes = typename Format::Codes;
  for (size_t row = 0; row < kStripRows; ++row) {
    put_u16(blocks[row].scale, record + 2 * row);
    if (Layout::minimum) put_u16(blocks[row].minimum, record + Format::kMinimum + 2 * row);
  }
  Format::Groups::pack(blocks, record + Format::kGroups);
  alignas(64) uint8_t lines[Format::kSteps * Codes::kLines * kLineBytes];
  for (size_t row = 0; row < kStripRows; row += 4) {
    const uint8_t* const codes[4] = {blocks[row].codes, blocks[row + 1].codes, blocks[row + 2].codes,
                                     blocks[row + 3].codes};
    for (size_t k = 0; k < Layout::weights; k += 16) {
      interleave(codes, k, lines + k * kStripRows + row * kLineWeights);
    }
  }
  constexpr size_t filled = Layout::weights * kStripRows;
  for (size_t i = filled; i < sizeof lines; ++i) lines[i] = 0;
  uint8_t* to = record + Format::kCodes;
  for (size_t step = 0; step < Format::kSteps; ++step, to += Codes::kBytes) {
    Codes::fold_step(lines + step * Codes::kLines * kLineBytes, to);
  }
}

// The codes of a record, a line for every four weights: as many lines as its steps have.
template <class Format>
void unfold_codes(const uint8_t* record, uint8_t* lines) {
  using Codes = typename Format::Codes;
  for (size_t step = 0; step < Format::kSteps; ++step) {
    Codes::unfold_step(record + Format::kCodes + step * Codes::kBytes, lines + step * Codes::kLines * kLineBytes);
  }
}

// One row's block of a record, its codes unfolded before.
template <class Format>
void unpack_block(const uint8_t* record, const uint8_t* lines, size_t row, Block& block) {
  using Layout = typename Format::Layout;
  block.scale = get_u16(record + 2 * row);
  if (Layout::minimum) block.minimum = get_u16(record + Format::kMinimum + 2 * row);
  Format::Groups::unpack(record + Format::kGroups, row, block);
  for (size_t k = 0; k < Layout::weights; k += kLineWeights) {
    __builtin_memcpy(block.codes + k, lines + k * kStripRows + row * kLineWeights, kLineWeights);
  }
}

}  // namespace
