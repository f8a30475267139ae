// The ring of states with the least squared error, sixteen words in lanes: Viterbi's algorithm on a tail-biting
// trellis. A first round starts and ends anywhere, and says in which state the ring is half-way; the second goes
// round from there and back to it, the third from where the second was at the other side: it is never worse.
//
//   state(t + 1) = state(t) >> symbol_bits | next symbol << (state_bits - symbol_bits)
//   cost[state] = least cost of the states before it + (target - scale * table[state])^2
//
// The 2^symbol_bits states that may be before a state are neighbours, a group. Which of them it was is kept in the
// lowest bits of the cost's mantissa, where a minimum carries it along for nothing.
#pragma once

#include "lanes.h"
#include "localq_kernels.h"

namespace {

constexpr size_t kMostSteps = 64, kMostStates = 256;
constexpr float kNoCost = 0x1p-100f;  // not 0: numbers below the normal ones are slow
constexpr float kForbidden = 0x1p100f;

template <uint32_t symbol_bits, uint32_t state_bits>
struct Trellis {
  static constexpr size_t kSteps = symbol_bits == 1 ? 64 : symbol_bits == 4 ? 16 : 32;
  static constexpr size_t kStates = 1 << state_bits, kBranches = 1 << symbol_bits;
  static constexpr size_t kGroups = kStates / kBranches;
  static_assert(state_bits >= symbol_bits && kStates <= kMostStates, "a state is a symbol at least, and a byte");
};

// Sixteen words, step by step along their rings.
struct Words {
  f32x16 target[kMostSteps];
  f32x16 minus_scale[kMostSteps];
  uint8_t state[kMostSteps][kLanes];
  f32x16 cost[kMostStates];
  uint8_t before[kMostSteps * kMostStates / 2][kLanes];  // [step][group]: the state before, within the group
};
static_assert(sizeof(Words) <= LOCALQ_TRELLIS_WORKSPACE * sizeof(float), "LOCALQ_TRELLIS_WORKSPACE");

typedef uint8_t u8part __attribute__((vector_size(kPartLanes)));
typedef u8part u8part_any __attribute__((aligned(1), may_alias));

LOCALQ_INLINE void store_bytes(uint8_t* to, i32x16 value) {
  LOCALQ_EACH_PART reinterpret_cast<u8part_any*>(to)[p] = __builtin_convertvector(value.part[p], u8part);
}

// From the costs before step `first` to those after all steps, once round.
template <class T>
__attribute__((noinline)) void go_round(Words& words, const float* table, size_t first) {
  const i32x16 within = all_i32(static_cast<int32_t>(T::kBranches - 1)), rest = ~within;
  for (size_t t = 0; t < T::kSteps; ++t) {
    f32x16 least[T::kGroups];
    for (size_t group = 0; group < T::kGroups; ++group) {
      const f32x16* of_group = words.cost + group * T::kBranches;
      least[group] = from_bits(bits_of(of_group[0]) & rest);
      for (size_t i = 1; i < T::kBranches; ++i) {
        const i32x16 tagged = (bits_of(of_group[i]) & rest) | all_i32(static_cast<int32_t>(i));
        least[group] = smaller(from_bits(tagged), least[group]);
      }
      store_bytes(words.before[t * T::kGroups + group], bits_of(least[group]) & within);
    }
    const size_t step = (first + t) % T::kSteps;
    const f32x16 target = words.target[step], minus_scale = words.minus_scale[step];
    for (size_t group = 0; group < T::kGroups; ++group) {
      for (size_t state = group; state < T::kStates; state += T::kGroups) {
        const f32x16 error = multiply_add(minus_scale, all(table[state]), target);
        words.cost[state] = multiply_add(error, error, least[group]);
      }
    }
  }
}

// Of the round's t-th step.
template <class T>
LOCALQ_INLINE size_t state_before(const Words& words, size_t state, size_t t, size_t lane) {
  const size_t group = state % T::kGroups;
  return group * T::kBranches + words.before[t * T::kGroups + group][lane];
}

// The states in which the ring is at `step`, when it may start and end in any.
template <class T>
LOCALQ_INLINE void go_through(Words& words, const float* table, size_t step, uint8_t* states) {
  for (size_t state = 0; state < T::kStates; ++state) words.cost[state] = all(kNoCost);
  go_round<T>(words, table, 0);
  f32x16 least = words.cost[0], best = all(0.0f);
  for (size_t state = 1; state < T::kStates; ++state) {
    const i32x16 less = words.cost[state] < least;
    least = choose(less, words.cost[state], least);
    best = choose(less, all(static_cast<float>(state)), best);
  }
  alignas(64) float last[kLanes];
  store(last, best);
  for (size_t lane = 0; lane < kLanes; ++lane) {
    size_t state = static_cast<size_t>(last[lane]);
    for (size_t t = T::kSteps - 1; t > step; --t) state = state_before<T>(words, state, t, lane);
    states[lane] = static_cast<uint8_t>(state);
  }
}

// words.state: the best rings that are in `states` at `step`.
template <class T>
LOCALQ_INLINE void close_rings(Words& words, const float* table, size_t step, const uint8_t* states) {
  for (size_t state = 0; state < T::kStates; ++state) {
    alignas(64) float start[kLanes];
    for (size_t lane = 0; lane < kLanes; ++lane) start[lane] = states[lane] == state ? kNoCost : kForbidden;
    words.cost[state] = load(start);
  }
  go_round<T>(words, table, step + 1);
  for (size_t lane = 0; lane < kLanes; ++lane) {
    size_t state = states[lane];
    for (size_t t = T::kSteps; t-- > 0;) {
      words.state[(step + 1 + t) % T::kSteps][lane] = static_cast<uint8_t>(state);
      state = state_before<T>(words, state, t, lane);
    }
  }
}

// words.state of words.target and words.minus_scale.
template <class T>
LOCALQ_INLINE void find_rings(Words& words, const float* table) {
  uint8_t states[kLanes];
  go_through<T>(words, table, T::kSteps / 2, states);
  close_rings<T>(words, table, T::kSteps / 2, states);
  __builtin_memcpy(states, words.state[0], kLanes);
  close_rings<T>(words, table, 0, states);
}

}  // namespace
