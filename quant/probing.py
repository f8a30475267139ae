"""Probes of a model (``quant.allocation.probes``), made and judged one after the other.

Each is a quantization of its own whose file nobody keeps. What was measured stays in the folder of work
under way, so a killed run goes on with the next probe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from quant.allocation.measure import Measured
from quant.allocation.probes import Probe, choose, corrected
from quant.allocation.recipe import KEEP, just
from quant.calibration.domains import by_domain
from quant.calibration.texts import builtin
from quant.certificate.document import Certificate
from quant.certificate.keys import read_certificate
from quant.errors import NoRoom, TextsOverlap, TextTooShort
from quant.evaluation.result import LEAST_CHUNKS, EvaluationText
from quant.files.work import Work
from quant.progress import Event, OnEvent, PhaseEvent, WarningEvent
from quant.request import QuantizeRequest, Target
from quant.steps import Calibrated, Steps
from runtime.errors import DoesNotFit
from runtime.gguf import open_gguf

MOST_WEIGHTS: Final = 500_000_000
"""A model with more is probed only if asked: it takes as many passes over the texts as there are roles."""
_ENCODING: Final = 300
"""Of the thousandths of a probe; the others are for judging."""

Make: TypeAlias = Callable[[QuantizeRequest, Steps, OnEvent], Certificate]
"""Makes a file, judges it, and lets it go."""


def builtin_texts() -> tuple[EvaluationText, ...]:
    """The built-in texts for probes, by domain: neither calibration nor evaluation has anything of them."""
    return tuple(EvaluationText(domain, text) for domain, text in by_domain(builtin("probing")).items())


class Probed(msgspec.Struct, frozen=True):
    """What was measured so far, under which statistics."""

    statistics_sha256: str | None
    nats: dict[str, float]
    """By role: divergence from the original."""


@dataclass(frozen=True)
class Probing:
    """Whose probes, and where they are made."""

    request: QuantizeRequest
    steps: Steps
    calibrated: Calibrated | None
    work: Work
    make: Make
    on_event: OnEvent

    def correct(self, measured: Measured) -> tuple[Measured, dict[str, float]]:
        """``measured`` with sensitivities that were tested, and what each role was found to cost.

        As it was, with a warning, where the texts, the memory or the disk do not allow that.
        """
        probes = choose(measured)
        known = self._known()
        nats = dict(known.nats)
        for number, probe in enumerate(probes):
            if probe.role not in nats:
                try:
                    nats[probe.role] = self._measure(probe, number, len(probes))
                except (TextsOverlap, TextTooShort, DoesNotFit, NoRoom) as error:
                    reason = str(error).splitlines()[0]
                    self.on_event(WarningEvent(f"how much each matrix counts is guessed: {reason}"))
                    return measured, {}
                self.work.save(self._path, Probed(known.statistics_sha256, nats))
        nats = {probe.role: nats[probe.role] for probe in probes}
        return corrected(measured, probes, nats), nats

    @property
    def _path(self) -> Path:
        return self.work.folder / "probes.json"

    def _known(self) -> Probed:
        """What an earlier run, or that of the file to reuse, measured under the same statistics."""
        statistics = self.calibrated.sha256 if self.calibrated else None
        saved = self.work.load(self._path, Probed)
        if saved is None and self.request.reuse is not None:
            earlier = read_certificate(open_gguf(self.request.reuse))
            saved = Probed(earlier.statistics_sha256, earlier.probed) if earlier else None
        return saved if saved and saved.statistics_sha256 == statistics else Probed(statistics, {})

    def _measure(self, probe: Probe, number: int, count: int) -> float:
        texts = self.request.probing
        request = replace(
            self.request,
            target=Target(KEEP),
            overrides=tuple(just(name, fmt) for name, fmt in probe.formats.items()),
            out=self.work.folder / f"probe-{number}.gguf",
            work=self.work.folder,
            save_imatrix=None,
            evaluation=texts,
            evaluation_chunks=LEAST_CHUNKS * len(texts),
            judge=True,
            activations="dynamic",
            probing=(),
            reuse=None,
            copies=1,
        )
        steps = replace(self.steps, calibrate=lambda *_: self._statistics())

        def listen(event: Event) -> None:
            if isinstance(event, PhaseEvent) and event.phase in ("encode", "evaluate") and event.total:
                share = event.done / event.total
                part = (
                    share * _ENCODING if event.phase == "encode" else _ENCODING + share * (1000 - _ENCODING)
                )
                self.on_event(PhaseEvent("probe", number * 1000 + int(part), count * 1000))

        figures = self.make(request, steps, listen).figures
        assert figures is not None
        return figures.kl_mean

    def _statistics(self) -> Calibrated:
        assert self.calibrated is not None
        return self.calibrated
