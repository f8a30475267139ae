"""From a source model to a published, certified, quantized one.

    request = QuantizeRequest(source=(Path("f16.gguf"),), target=Target("q4_k"), out=Path("q4.gguf"), ...)
    print(quantize(request).certificate.figures)

Everything that takes time leaves something in the folder of work under way, so the same request goes on
where a killed one stopped, and ends in the same bytes. The result appears under its name in one step, or not
at all.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from quant.activations import StaticInputs, static_inputs
from quant.allocation.fit import plan_fit
from quant.allocation.joint import Model
from quant.allocation.measure import measure
from quant.allocation.plan import Plan, PlanDocument, best_within, data_bytes, settle
from quant.allocation.recipe import KEEP, OUTER_ROLES, assign, packs, role_of, uses_words
from quant.allocation.sensitivity import sensitivities
from quant.allocation.words import Words
from quant.calibration.statistics import InputStatistics
from quant.calibration.text import CHARACTERS_A_TOKEN
from quant.certificate.certify import has_figures_for, with_figures, with_tensors
from quant.certificate.document import Certificate, Making
from quant.certificate.first import first_certificate
from quant.encoders.model import encode_all
from quant.encoders.tensor import Chunk, chunks
from quant.encoders.words import WordCoders
from quant.errors import CannotEncode, OutputExists
from quant.evaluation.overlap import require_disjoint
from quant.files.outline import lay_out_file
from quant.files.reuse import reuse
from quant.files.source import Source, SourceTensor, open_source
from quant.files.work import Work, open_work, work_key
from quant.files.writer import PartFile, existing, require_room
from quant.formats.format import Format
from quant.preflight import require_memory, require_static, require_words, written_bytes
from quant.probing import Probing
from quant.progress import OnEvent, PhaseEvent, PlannedEvent, WarningEvent, ignore
from quant.publication import publish_beside, save_imatrix
from quant.request import QuantizeRequest
from quant.steps import Calibrated, Steps, from_imatrix, real_steps
from runtime.hardware import this_machine
from runtime.hardware.energy import EnergyMeter
from runtime.kernels import active_isa

MOST_WORD_BITS: Final = 5.0
"""Where LT formats come into question."""
RESERVE_BYTES: Final = 4 << 20
"""Room on the disk for the journal, the plan and the certificate."""


@dataclass(frozen=True)
class Quantized:
    """What was published."""

    path: Path
    certificate: Certificate
    nbytes: int
    """Of the file."""
    resumed_tensors: int
    """Taken from an earlier run that was interrupted."""


Publish: TypeAlias = Callable[[PartFile, Certificate], None]
"""Gives a finished, validated file a place. It may move the file away; what is left is removed."""


def quantize(
    request: QuantizeRequest,
    *,
    on_event: OnEvent = ignore,
    steps: Steps | None = None,
    publish: Publish | None = None,
) -> Quantized:
    """Makes the file that ``request`` asks for, with its certificate beside it; or ``publish`` places both.

    Raises GgufError or SourceDamaged for a source that cannot be used, CannotEncode for a request that it
    cannot meet, TextsOverlap, DoesNotFit for too little memory and NoRoom for too little disk, these three
    before the work begins, OutputExists, WorkInUse, JobFailed. Nothing is published then, and what is
    finished is kept for the next try.
    ``on_event`` is called in the caller's thread; what it raises, Ctrl-C included, ends the run likewise.
    """
    with open_source(request.source) as source, EnergyMeter() as energy:
        run = _Run(request, source, on_event, steps or real_steps(), energy)
        return run.run(publish or partial(publish_beside, request.out, replace=request.replace))


class _Run:
    """One run: the request, the open source, and when it began."""

    def __init__(
        self, request: QuantizeRequest, source: Source, on_event: OnEvent, steps: Steps, energy: EnergyMeter
    ) -> None:
        self.request = request
        self.source = source
        self.on_event = on_event
        self.steps = steps
        self.energy = energy

    def run(self, publish: Publish) -> Quantized:
        request, source = self.request, self.source
        if request.out.exists() and not request.replace:
            raise OutputExists(request.out)
        if source.quantized_types:
            self.on_event(
                WarningEvent(
                    f"the source is already quantized ({', '.join(source.quantized_types)}): its own error "
                    "stays, and the figures compare with it, not with the model that it was made of"
                )
            )
        require_words(source, request)
        require_static(request)
        characters = request.evaluation_chunks * request.context_tokens * CHARACTERS_A_TOKEN
        require_disjoint(request.evaluation, request.calibration, characters)
        require_memory(source, request)
        require_room(existing(request.out.parent), RESERVE_BYTES)
        digests = self._hash()
        parent = request.work or request.out.parent
        key = work_key([list(digests), request.out.name, request.deciding()])
        with open_work(parent, key, request.out.name) as work:
            quantized = self._make(work, digests, publish)
            work.remove()
        return quantized

    def _make(self, work: Work, digests: tuple[str, ...], publish: Publish) -> Quantized:
        request, source = self.request, self.source
        self._require_room(work, written_bytes(source, request))
        calibrated = self._calibrate(work, digests)
        if request.save_imatrix is not None and calibrated is not None:
            save_imatrix(request.save_imatrix, source, request, calibrated)
        plan = self._plan(work, digests, calibrated)
        self._warn(plan, calibrated)
        certificate = first_certificate(source, request, plan, digests)
        layout = lay_out_file(source, request, plan, digests, certificate)
        work.set_aside(layout.size)
        self._require_room(work, layout.size)
        self.on_event(
            PlannedEvent(
                encoded=len(plan.formats),
                copied=len(source.tensors) - len(plan.formats),
                nbytes=layout.size,
                bits_per_weight=certificate.bits_per_weight,
                running=plan.running,
            )
        )
        with PartFile(work.part, layout) as part:
            if request.reuse is not None:
                reuse(request.reuse, certificate, calibrated.sha256 if calibrated else None, part, work)
            finished, resumed = encode_all(
                source,
                plan,
                certificate,
                work,
                part,
                statistics=calibrated.statistics if calibrated else _no_statistics,
                make_encoder=self.steps.make_encoder(request),
                words=WordCoders(request.seed, request.jobs),
                jobs=request.jobs,
                on_event=self.on_event,
            )
            part.zero_padding()
            certificate = with_tensors(certificate, finished, calibrated)
            part.rewrite(lay_out_file(source, request, plan, digests, certificate))
            part.check()
            certificate = self._evaluate(certificate, work)
            part.rewrite(lay_out_file(source, request, plan, digests, certificate))
            part.check()
            source.require_unchanged()
            certificate = msgspec.structs.replace(certificate, making=self._making())
            part.sync()
            publish(part, certificate)
        return Quantized(request.out, certificate, layout.size, resumed)

    def _require_room(self, work: Work, nbytes: int) -> None:
        """Raises :class:`NoRoom` unless a file of ``nbytes`` fits on the disk, and its copies."""
        needed = nbytes * self.request.copies + RESERVE_BYTES
        require_room(work.folder, needed - _allocated(work.part))

    def _hash(self) -> tuple[str, ...]:
        total = self.source.model.size_bytes
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.on_event(PhaseEvent("hash", done, total))

        return self.source.sha256(advance)

    def _calibrate(self, work: Work, digests: tuple[str, ...]) -> Calibrated | None:
        if self.request.imatrix is not None:
            return from_imatrix(self.request.imatrix, self.source.model)
        if not self.request.calibration:
            return None
        if not work.statistics.exists():
            self._check_weights()  # a model whose weights are no numbers measures nonsense
        return self.steps.calibrate(
            self.request,
            digests,
            work.statistics,
            lambda share: self.on_event(PhaseEvent("calibrate", int(share * 1000), 1000)),
        )

    def _check_weights(self) -> None:
        """Reads every tensor. Raises SourceDamaged at the first weight that is no number."""
        source = self.source
        pieces = [(tensor, chunk) for tensor in source.tensors for chunk in chunks(tensor)]

        def check(piece: tuple[SourceTensor, Chunk]) -> None:
            source.check(piece[0], piece[1].start, piece[1].stop)

        with ThreadPoolExecutor(self.request.jobs, "localq-check") as pool:
            try:
                for number, _ in enumerate(pool.map(check, pieces), 1):
                    self.on_event(PhaseEvent("check", number, len(pieces)))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _plan(self, work: Work, digests: tuple[str, ...], calibrated: Calibrated | None) -> Plan:
        """The plan of an earlier run, or a new one: it is decided once, as long as the statistics stay.

        What was encoded under others, or under a plan that is not known any more, is forgotten.
        """
        measured = calibrated.sha256 if calibrated else None
        saved = work.load(work.plan, PlanDocument)
        static = self._static(calibrated)
        if saved is not None and (known := saved.plan_for(self.source.tensors, measured)):
            return replace(known, static=static)
        work.forget_tensors()
        plan = self._new_plan(work, digests, calibrated, static)
        work.save(work.plan, plan.document(measured))
        return plan

    def _static(self, calibrated: Calibrated | None) -> StaticInputs:
        """Scales of all inputs that calibration saw, where these are asked for."""
        if calibrated is None or self.request.activations == "dynamic":
            return StaticInputs()
        found = {tensor.name: calibrated.statistics(tensor.name) for tensor in self.source.tensors}
        return static_inputs({name: seen for name, seen in found.items() if seen is not None})

    def _new_plan(
        self, work: Work, digests: tuple[str, ...], calibrated: Calibrated | None, static: StaticInputs
    ) -> Plan:
        request, source = self.request, self.source
        inputs = calibrated.inputs if calibrated else {}
        if request.target.mixture is not None:
            formats = assign(source.tensors, request.target.mixture, request.overrides, inputs)
            return Plan(formats, inputs=inputs, static=static)
        settled, free = settle(source, request.overrides, inputs)
        settled = replace(settled, static=static)
        # Under the moments that it fits, error feedback looks better than it is, and unevenly so: plans made
        # with its errors diverge up to twice as far (docs/allocation.md).
        to_nearest = self.steps.make_encoder(replace(request, feedback=False))
        words = None
        if request.chooses_words:
            coders = WordCoders(request.seed, request.jobs)
            words = Words(inputs, coders, to_nearest, self.steps.make_encoder(request))
        measured = measure(
            source,
            free,
            sensitivities(source.tensors),
            calibrated.statistics if calibrated else _no_statistics,
            to_nearest,
            words=words,
            jobs=request.jobs,
            on_tensor=lambda done, total: self.on_event(PhaseEvent("measure", done, total)),
        )
        probed: dict[str, float] = {}
        if request.probing:
            probing = Probing(request, self.steps, calibrated, work, _probe, self.on_event)
            measured, probed = probing.correct(measured)
        if (fit := request.target.fit) is not None:
            model = Model(source.model.headers, measured, settled.formats, inputs)
            if probed:  # what other models taught of such sensitivities is of no use where they were tested
                fit = replace(fit, learned=msgspec.structs.replace(fit.learned, nats=1.0))
            machine = this_machine(ram=fit.memory_bytes)
            joint = plan_fit(model, fit, machine, threads=request.jobs)
            return Plan(joint.formats, joint.running(), probed, inputs, static)
        settled = replace(settled, probed=probed)
        size = request.target.size_bytes
        if size is None:
            elements = sum(tensor.elements for tensor in source.tensors)
            room = int((request.target.bits_per_weight or 0.0) * elements / 8)
            return best_within(source, settled, measured, room, partial(data_bytes, source))
        header = len(lay_out_file(source, request, settled, digests).header)
        if header > size:
            raise CannotEncode(f"the header alone takes {header} bytes; ask for a larger file")

        def file_bytes(plan: Plan) -> int:
            return lay_out_file(source, request, plan, digests).size

        return best_within(source, settled, measured, size, file_bytes)

    def _warn(self, plan: Plan, calibrated: Calibrated | None) -> None:
        """Says what the plan leaves out."""
        if not plan.formats and self.request.target.mixture != KEEP:
            self.on_event(WarningEvent("nothing is to encode: every tensor stays as the source has it"))
        if self.request.chooses_words or uses_words(self.request.target.mixture, ()):
            others = [
                tensor.name
                for tensor in self.source.tensors
                if role_of(tensor.name) not in OUTER_ROLES
                and not any(choice.matches(tensor.name) for choice in self.request.overrides)
                and not (packs(tensor) and tensor.name in plan.inputs)
                and isinstance(fmt := plan.formats.get(tensor.name), Format)
                and fmt.bits_per_weight < MOST_WORD_BITS
            ]
            if others:
                self.on_event(
                    WarningEvent(
                        f"{len(others)} of {len(plan.formats)} matrices to encode ({', '.join(others[:2])}"
                        f"{', ...' if others[2:] else ''}) get formats of ggml: LT formats need rows of a "
                        "multiple of 64 weights, and inputs that calibration kept a Hessian of"
                    )
                )
        if self.request.imatrix is None or calibrated is None:
            return
        unseen = [
            name
            for name in plan.formats
            if role_of(name) not in OUTER_ROLES and calibrated.statistics(name) is None
        ]
        if unseen:
            self.on_event(
                WarningEvent(
                    f"the importance matrix says nothing of {len(unseen)} of {len(plan.formats)} matrices to "
                    f"encode ({', '.join(unseen[:2])}{', ...' if unseen[2:] else ''}): their columns count "
                    "alike"
                )
            )

    def _evaluate(self, certificate: Certificate, work: Work) -> Certificate:
        if not (self.request.evaluation and self.request.judge):
            return certificate
        earlier = work.load(work.evaluated, Certificate)
        if earlier is not None and has_figures_for(earlier, certificate):
            return earlier
        evaluation = self.steps.evaluate(
            self.request,
            work.part,
            lambda share: self.on_event(PhaseEvent("evaluate", int(share * 1000), 1000)),
        )
        judged = with_figures(certificate, evaluation)
        work.save(work.evaluated, judged)
        return judged

    def _making(self) -> Making:
        self.energy.sample()
        return Making(
            created=datetime.now(UTC).replace(microsecond=0).isoformat(),
            seconds=round(self.energy.seconds, 3),
            joules=self.energy.joules,
            isa=active_isa(),
        )


def _probe(request: QuantizeRequest, steps: Steps, on_event: OnEvent) -> Certificate:
    return quantize(request, steps=steps, on_event=on_event, publish=lambda _part, _found: None).certificate


def _no_statistics(_name: str) -> InputStatistics | None:
    return None


def _allocated(path: Path) -> int:
    """Bytes on the disk that a part file has already."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
