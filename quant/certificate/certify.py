"""Filling in a certificate as its facts become known: the tensors, then the figures."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from quant.certificate.document import Certificate, Figures, TensorFacts, TextFacts, TextFigures, data_digest
from quant.evaluation.result import Evaluation
from quant.files.work import FinishedTensor
from quant.steps import Calibrated


def facts_of(planned: TensorFacts, line: FinishedTensor) -> TensorFacts:
    """What was planned of a tensor, and what became of it."""
    return msgspec.structs.replace(planned, encoder=line.encoder, error=line.error)


def with_tensors(
    certificate: Certificate, finished: Mapping[str, FinishedTensor], calibrated: Calibrated | None
) -> Certificate:
    """The certificate of a file whose tensors are all written."""
    lines = [finished[tensor.name] for tensor in certificate.tensors]
    certificate = msgspec.structs.replace(
        certificate,
        tensors=tuple(map(facts_of, certificate.tensors, lines)),
        data_sha256=data_digest(line.sha256 for line in lines),
    )
    if calibrated is None or not certificate.calibration:
        return certificate
    return msgspec.structs.replace(
        certificate,
        statistics_sha256=calibrated.sha256,
        calibration=tuple(
            msgspec.structs.replace(domain, tokens=calibrated.domain_tokens.get(domain.name, 0))
            for domain in certificate.calibration
        ),
    )


def with_figures(certificate: Certificate, evaluation: Evaluation) -> Certificate:
    """The certificate of a file that was judged."""
    return msgspec.structs.replace(
        certificate,
        figures=_figures(evaluation),
        kl_kind=evaluation.kl_kind,
        by_text=tuple(TextFigures(text=text.name, figures=_figures(text)) for text in evaluation.texts),
        evaluation=tuple(
            TextFacts(name=text.name, sha256=text.sha256, tokens=text.tokens) for text in evaluation.texts
        ),
    )


def _figures(found: object) -> Figures:
    return msgspec.convert({name: getattr(found, name) for name in Figures.__struct_fields__}, Figures)


def has_figures_for(earlier: Certificate, certificate: Certificate) -> bool:
    """Whether an earlier run judged the same tensors on the same texts."""
    texts = [[(text.name, text.sha256) for text in found.evaluation] for found in (earlier, certificate)]
    return (
        earlier.figures is not None
        and texts[0] == texts[1]
        and (earlier.data_sha256, earlier.options) == (certificate.data_sha256, certificate.options)
    )
