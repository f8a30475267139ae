// Rounding to words of a trellis with error feedback: LDLQ (Chee et al. 2023) on blocks of a word's columns, as
// QTIP does it (Tseng et al. 2024). Within a word there is no feedback; that is why a word has few columns.
#pragma once

#include "feedback/feedback.h"
#include "trellis/viterbi.h"

namespace {

// Where the steps of a word's ring are: docs/formats.md. i is the byte that a step's bits begin in.
template <uint32_t symbol_bits>
struct Word {
  static constexpr size_t kWordRows = symbol_bits == 4 ? 4 : 8, kWordColumns = symbol_bits == 1 ? 8 : 4;
  static constexpr size_t kSteps = kWordRows * kWordColumns, kInByte = kSteps / 8;
  static constexpr size_t kInTile = kTileRows / kWordRows, kTiles = kLanes / kInTile;
  static constexpr size_t row(size_t step) { return 2 * (step % kInByte % 4) + step / kInByte / 4; }
  static constexpr size_t column(size_t step) { return step % kInByte / 4 * 4 + step / kInByte % 4; }
};

// One word column, from k on, of `tiles` tiles whose targets are `stride` floats apart.
template <uint32_t symbol_bits, uint32_t state_bits>
__attribute__((noinline)) void round_words(const localq_feedback& f, const float* table, size_t tile, size_t tiles,
                                           size_t k, const float* targets, size_t stride, Words& words) {
  using W = Word<symbol_bits>;
  for (size_t step = 0; step < W::kSteps; ++step) {
    alignas(64) float target[kLanes] = {}, minus_scale[kLanes] = {};
    for (size_t lane = 0; lane < tiles * W::kInTile; ++lane) {
      const size_t of = lane / W::kInTile, row = lane % W::kInTile * W::kWordRows + W::row(step);
      target[lane] = targets[of * stride + W::column(step) * kTileRows + row];
      minus_scale[lane] = -f.scales[(tile + of) * f.groups * kTileRows + row];
    }
    words.target[step] = load(target), words.minus_scale[step] = load(minus_scale);
  }
  find_rings<Trellis<symbol_bits, state_bits>>(words, table);
  for (size_t step = 0; step < W::kSteps; ++step) {
    alignas(64) float minus_scale[kLanes];
    store(minus_scale, words.minus_scale[step]);
    for (size_t lane = 0; lane < tiles * W::kInTile; ++lane) {
      const size_t of = lane / W::kInTile, row = lane % W::kInTile * W::kWordRows + W::row(step);
      const size_t at = ((tile + of) * f.columns + k + W::column(step)) * kTileRows + row;
      const uint8_t state = words.state[step][lane];
      f.codes[at] = state;
      f.errors[at] = f.weights[at] + minus_scale[lane] * table[state];
    }
  }
}

template <uint32_t symbol_bits, uint32_t state_bits>
LOCALQ_INLINE void round_trellis(const localq_feedback& f, const float* table, size_t first, size_t last,
                                 float* targets, float* workspace) {
  using W = Word<symbol_bits>;
  Words& words = *reinterpret_cast<Words*>(workspace);
  const size_t stride = (last - first) * kTileRows;
  for (size_t tile = 0; tile < f.tiles; tile += W::kTiles) {
    const size_t tiles = f.tiles - tile < W::kTiles ? f.tiles - tile : W::kTiles;
    for (size_t k = first; k < last; k += W::kWordColumns) {
      float* of_word = targets + tile * stride + (k - first) * kTileRows;
      for (size_t of = 0; of < tiles; ++of) {
        const float* errors = f.errors + ((tile + of) * f.columns + first) * kTileRows;
        for (size_t quad = 0; quad < W::kWordColumns; quad += kQuad) {
          advance(errors, f.coefficients + (k + quad) * f.columns + first, f.columns, k - first,
                  of_word + of * stride + quad * kTileRows);
        }
      }
      round_words<symbol_bits, state_bits>(f, table, tile, tiles, k, of_word, stride, words);
    }
  }
}

LOCALQ_INLINE void trellis_round(const localq_feedback* f, const localq_trellis* trellis, size_t first, size_t last,
                                 float* targets, float* workspace) {
#define LOCALQ_TRELLIS(symbol, state)                                                            \
  case symbol * 16 + state:                                                                      \
    return round_trellis<symbol, state>(*f, trellis->table, first, last, targets, workspace);
#define LOCALQ_TRELLISES(symbol) LOCALQ_TRELLIS(symbol, 4) LOCALQ_TRELLIS(symbol, 6) LOCALQ_TRELLIS(symbol, 8)
  switch (trellis->symbol_bits * 16 + trellis->state_bits) {
    LOCALQ_TRELLISES(1)
    LOCALQ_TRELLISES(2)
    LOCALQ_TRELLISES(3)
    LOCALQ_TRELLISES(4)
  }
#undef LOCALQ_TRELLISES
#undef LOCALQ_TRELLIS
}

}  // namespace
