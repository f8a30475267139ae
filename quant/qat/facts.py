"""What the certificate of a trained file says of its training."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from quant.certificate.document import Certificate, TrainingFacts
from quant.certificate.first import domains
from quant.qat.course import Course
from quant.qat.data import first_round
from quant.qat.progress import Check
from quant.qat.request import TrainRequest


def training_facts(
    request: TrainRequest, course: Course, before: Certificate, checks: Sequence[Check]
) -> TrainingFacts:
    """``before`` is the certificate of what was trained."""
    figures, best = before.figures, _best(checks)
    steps = max(check.step for check in best)
    learned = first_round(course.options.seed, len(course.data.training), steps * course.options.chunks)
    tokens = course.data.domain_tokens(learned)
    return TrainingFacts(
        options=str(course.options),
        steps=steps,
        texts=tuple(
            msgspec.structs.replace(text, tokens=tokens.get(text.name, 0)) for text in domains(request.data)
        ),
        held_out=_mean([check.loss for check in best]),
        held_out_before=_mean([check.loss for check in checks if check.step == 0]),
        kl_before=figures.kl_mean if figures else None,
        kl_before_stderr=figures.kl_stderr if figures else None,
        perplexity_before=figures.perplexity if figures else None,
        perplexity_before_stderr=figures.perplexity_stderr if figures else None,
    )


def _best(checks: Sequence[Check]) -> list[Check]:
    """The best check of each layer, or of all; the first of each has a loss that is a number."""
    found: dict[int | None, Check] = {}
    for check in checks:
        if check.layer not in found or check.loss < found[check.layer].loss:
            found[check.layer] = check
    return list(found.values())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
