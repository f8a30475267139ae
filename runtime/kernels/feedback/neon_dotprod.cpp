#include "kernels.h"

#include "feedback/feedback.h"

void localq::feedback_targets_f32_neon_dotprod(const localq_feedback* feedback, size_t first, size_t last, size_t from,
                                       size_t to, uint32_t start, float* targets) {
  feedback_targets(feedback, first, last, from, to, start, targets);
}

void localq::feedback_round_f32_neon_dotprod(const localq_feedback* feedback, const localq_format* format, size_t first,
                                     size_t last, uint32_t sweep, float* targets) {
  feedback_round(feedback, format, first, last, sweep, targets);
}
