#include "kernels.h"

#include "trellis/round.h"

void localq::trellis_round_f32_avx512vnni(const localq_feedback* feedback, const localq_trellis* trellis, size_t first,
                                    size_t last, float* targets, float* workspace) {
  trellis_round(feedback, trellis, first, last, targets, workspace);
}
