#include "kernels.h"

#include "feedback/refine.h"

void localq::feedback_targets_f32_avx512vnni(const localq_feedback* feedback, size_t first, size_t last,
                                             size_t from, size_t to, uint32_t start, float* targets) {
  feedback_targets(feedback, first, last, from, to, start, targets);
}

void localq::feedback_round_f32_avx512vnni(const localq_feedback* feedback, const localq_format* format,
                                           size_t first, size_t last, float* targets) {
  feedback_round(feedback, format, first, last, targets);
}

void localq::feedback_refine_f32_avx512vnni(const localq_feedback* feedback, const localq_format* format,
                                            const localq_refinement* refinement, size_t first, size_t last,
                                            const float* outside, float* workspace) {
  feedback_refine(feedback, format, refinement, first, last, outside, workspace);
}
