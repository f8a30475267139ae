// States of a strip's codes, as registers take them out of its lines: a step has eight columns, 64 bytes a bit.
#pragma once

#include "lt/registers.h"

namespace {

template <unsigned bits_, unsigned state_bits_>
struct LtCodes {
  static constexpr unsigned bits = bits_, state_bits = state_bits_;

  // The index of line q of the four columns `group` in a table that is ordered by lt_state(); bits above it are
  // anything where look-ups do not mind them. `step`: the register's part of the step's first line.
  template <unsigned group, unsigned q>
  LOCALQ_INLINE u8part take(const uint8_t* step) {
    if constexpr (bits == 1) return state<4 * group + q>(load_bytes(step));
    if constexpr (bits == 2) return state<2 * q>(load_bytes(step + group * kLtLine));
    if constexpr (bits == 4) return state<4 * (q % 2)>(load_bytes(step + (2 * group + q / 2) * kLtLine));
    if constexpr (bits == 3) {
      constexpr unsigned apart = lt_apart(state_bits), together = state_bits - apart;
      return joined<together>(lowest<2 * q, together>(load_bytes(step + group * kLtLine)),
                              spread<group, q, together, apart>(load_bytes(step + 2 * kLtLine)));
    }
  }

 private:
  // Bits from 8i + by on in byte i, at least `count` of them.
  template <unsigned by, unsigned count>
  LOCALQ_INLINE u8part lowest(u8part rings) {
    // within a byte, or within one of rings that are turned by half a byte, a plain shift will do
    if constexpr (kMindsHighBits && by > 0 && by + count <= 8) return moved<-static_cast<int>(by)>(rings, 0xFF >> by);
    if constexpr (kMindsHighBits && by > 4 && by - 4 + count <= 8) {
      return moved<4 - static_cast<int>(by)>(rotated<4>(rings), 0xFF >> (by - 4));
    }
    return rotated<by>(rings);
  }

  template <unsigned by>
  LOCALQ_INLINE u8part state(u8part rings) {
    const u8part found = lowest<by, state_bits>(rings);
    return kMindsHighBits && state_bits < 8 ? found & static_cast<uint8_t>((1u << state_bits) - 1) : found;
  }
};

// The table of a product in the kernels' order.
template <class Codes>
LOCALQ_INLINE void prepare(const int8_t* table, LtTable& prepared) {
  constexpr size_t states = size_t{1} << Codes::state_bits;
  for (unsigned i = 0; i < states; ++i) {
    const int value = table[lt_state(Codes::bits, Codes::state_bits, i)] + kLtShift<Codes::state_bits>;
    prepared.entries[i] = static_cast<uint8_t>(value);
  }
  for (size_t i = states; i < sizeof prepared.entries; ++i) prepared.entries[i] = prepared.entries[i - states];
}

}  // namespace
