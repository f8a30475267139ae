"""From an original to a published, certified model that was quantized and trained further.

    trained = train_quant(TrainRequest(quantize=request, options=TrainOptions(mode="full", steps=200), ...))
    print(trained.before.kl_mean, trained.certificate.figures.kl_mean)

Quantizing comes first, whole, with its figures; training begins at its codes, so it can only be better on the
held-out text or leave them. What takes time leaves something in the folder of work under way: the same
request goes on where an interrupted one stopped, and ends in the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import numpy as np
import torch

from quant.calibration.text import CHARACTERS_A_TOKEN
from quant.certificate.certify import has_figures_for, with_figures
from quant.certificate.document import Certificate, Figures, Making
from quant.certificate.keys import read_certificate
from quant.errors import CannotTrain, OutputExists
from quant.evaluation.overlap import require_disjoint
from quant.files.outline import lay_out_file
from quant.files.source import Source, open_source
from quant.files.work import Work, open_work, work_key
from quant.files.writer import PartFile, require_room
from quant.pipeline import Publish, quantize
from quant.progress import CheckEvent, OnEvent, PhaseEvent, WarningEvent, ignore
from quant.publication import publish_beside
from quant.qat import blocks, end_to_end
from quant.qat.blocks import Streams
from quant.qat.course import Course, plan_course
from quant.qat.data import TrainingData, read_data, require_enough
from quant.qat.disk import allocated, full_disk_told
from quant.qat.end_to_end import Lesson, original_states
from quant.qat.export import begun, plan_of, write
from quant.qat.facts import training_facts
from quant.qat.llama import output_name
from quant.qat.memory import needed_disk, require_memory
from quant.qat.progress import Check, OnCheck
from quant.qat.request import TrainRequest
from quant.qat.schedule import SHORT, Costs, Timing
from quant.qat.shape import Shape, shape_of
from quant.qat.student import Student, is_trained, read_student, read_weights
from quant.steps import Steps, real_steps
from runtime.gguf import open_gguf
from runtime.hardware.energy import EnergyMeter
from runtime.kernels import active_isa


@dataclass(frozen=True)
class Trained:
    """What was published."""

    path: Path
    certificate: Certificate
    nbytes: int
    before: Figures | None
    """Of the model before training; None where nothing was evaluated."""
    nbytes_before: int
    """Of its file."""
    bits_per_weight_before: float


def train_quant(
    request: TrainRequest,
    *,
    on_event: OnEvent = ignore,
    steps: Steps | None = None,
    publish: Publish | None = None,
) -> Trained:
    """Quantizes as ``request.quantize`` asks, trains the result, judges it and publishes it.

    Raises what :func:`quant.pipeline.quantize` raises, and :class:`CannotTrain` for a model or a format that
    is not trained. Nothing is published then, and what is finished is kept for the next try.
    """
    out = request.quantize.out
    if out.exists() and not request.quantize.replace:
        raise OutputExists(out)
    with open_source(request.quantize.source) as original, EnergyMeter() as energy:
        shape = shape_of(original.header)
        require_enough(request.data, request.held_out, request.quantize.context_tokens)
        require_memory(original, shape, request.options, request.quantize.memory_bytes)
        characters = request.quantize.evaluation_chunks * request.quantize.context_tokens * CHARACTERS_A_TOKEN
        require_disjoint(
            request.quantize.evaluation, request.data, characters, reader="training", option="--data"
        )
        parent = request.quantize.work or out.parent
        digests = _hash(original, on_event)
        key = work_key([list(digests), out.name, request.deciding()])
        with open_work(parent, key, out.name) as work:
            run = _Run(request, original, shape, work, on_event, steps or real_steps(), energy)
            trained = run.run(publish or partial(publish_beside, out, replace=request.quantize.replace))
            work.remove()
        return trained


@dataclass(frozen=True)
class _Run:
    """One run."""

    request: TrainRequest
    original: Source
    shape: Shape
    work: Work
    on_event: OnEvent
    steps: Steps
    energy: EnergyMeter

    def run(self, publish: Publish) -> Trained:
        torch.set_num_threads(self.request.options.threads)
        quantized_path = self._quantize()
        before = read_certificate(open_gguf(quantized_path))
        assert before is not None
        with open_source(quantized_path) as quantized:
            if not any(is_trained(tensor) for tensor in quantized.tensors):
                raise CannotTrain("no matrix is quantized, so there is nothing to train; choose fewer bits")
            course = self._plan(quantized)
            checks: list[Check] = []

            def heard(check: Check) -> None:
                checks.append(check)
                self.on_event(CheckEvent(check.step, check.loss, check.layer))

            students = self._train(quantized, course, heard)
            return self._write(quantized, before, course, students, checks, publish)

    def _quantize(self) -> Path:
        path = self.work.folder / "quantized.gguf"
        if not path.exists():
            request = replace(self.request.quantize, out=path, work=self.work.folder, copies=1)
            quantize(request, on_event=self.on_event, steps=self.steps)
        return path

    def _plan(self, quantized: Source) -> Course:
        options, context = self.request.options, self.request.quantize.context_tokens
        timing = None if options.steps else self._timed(quantized, context)

        def read(tokens: int) -> TrainingData:
            return read_data(
                self.original.model,
                self.request.data,
                self.request.held_out,
                context,
                self.work.folder / "tokens.i32",
                lambda share: self.on_event(PhaseEvent("read", int(share * 1000), 1000)),
                needed_tokens=tokens,
            )

        return plan_course(options, timing, context, read)

    def _timed(self, quantized: Source, context: int) -> Timing:
        """What decides how many updates there are: measured once, and kept."""
        path = self.work.folder / "timing.json"
        saved = self.work.load(path, Timing)
        if saved is None:
            began, seconds = monotonic(), self.request.minutes * 60
            costs = self._costs(quantized, context, seconds * SHORT)
            layers = self.shape.layers if self.request.options.mode == "blocks" else 1
            saved = Timing(costs, seconds - (monotonic() - began), layers)
            self.work.save(path, saved)
        return saved

    def _costs(self, quantized: Source, context: int, enough: float) -> Costs:
        options = self.request.options
        if options.mode == "blocks":
            student = self._student(quantized, lambda name: name.startswith("blk.0."))
            return blocks.costs_of(student, self.shape, context, options, enough)
        return end_to_end.costs_of(self._student(quantized), self.shape, context, options, enough)

    def _student(self, quantized: Source, wanted: Callable[[str], bool] = lambda name: True) -> Student:
        codes = self.request.options.mode != "scales"
        return read_student(self.original, quantized, codes=codes, dtype=self._dtype, wanted=wanted)

    @property
    def _dtype(self) -> Any:
        return torch.bfloat16 if self.request.options.precision == "bf16" else torch.float32

    def _train(self, quantized: Source, course: Course, heard: OnCheck) -> Iterator[Student]:
        """The parts of the model in their best states, one after the other."""
        options, folder = course.options, self.work.folder
        chunks = len(course.training) + len(course.held_out)
        needed = needed_disk(self.shape, quantized, options, chunks, course.training.shape[1])
        left = allocated(folder) - quantized.model.size_bytes  # by an interrupted run
        require_room(folder, max(0, needed - max(0, left)))
        if options.mode == "blocks":
            whole = np.concatenate((course.training, course.held_out))
            streams = Streams(folder, self.shape, whole, len(course.held_out))
            return blocks.train_blocks(
                self.original,
                quantized,
                streams,
                options,
                self._dtype,
                on_step=self._stepped,
                on_check=heard,
            )
        return self._train_whole(quantized, course, heard)

    def _train_whole(self, quantized: Source, course: Course, heard: OnCheck) -> Iterator[Student]:
        lesson = self._lesson(course)
        student = self._student(quantized)
        end_to_end.train(
            student, lesson, course.options, self.work.folder, on_step=self._stepped, on_check=heard
        )
        yield student

    def _lesson(self, course: Course) -> Lesson:
        weights = read_weights(self.original, self._dtype)

        def states(chunks: Any, name: str) -> Any:
            return original_states(
                self.shape,
                weights,
                chunks,
                self.work.folder / f"states-{name}.f32",
                lambda share: self.on_event(PhaseEvent("teach", int(share * 1000), 1000)),
            )

        return Lesson(
            shape=self.shape,
            head=weights[output_name(weights)],
            chunks=course.training,
            states=states(course.training, "training"),
            held_out=course.held_out,
            held_states=states(course.held_out, "held-out"),
        )

    def _stepped(self, done: int, total: int) -> None:
        self.on_event(PhaseEvent("train", done, total))

    def _write(
        self,
        quantized: Source,
        before: Certificate,
        course: Course,
        students: Iterator[Student],
        checks: Sequence[Check],
        publish: Publish,
    ) -> Trained:
        request = self.request.quantize
        # Layers arrive one after the other; what they learned waits on the disk, for its facts go first.
        shelf = self.work.folder / "trained"
        shelf.mkdir(exist_ok=True)
        names: list[str] = []
        for student in students:
            for name, packed in student.packed():
                with full_disk_told(shelf, len(packed)):
                    (shelf / str(len(names))).write_bytes(packed)
                names.append(name)
        facts = training_facts(self.request, course, before, checks)
        if not facts.steps:
            self.on_event(WarningEvent("no update made it better on the held-out text: it is as quantized"))
        plan, certificate = plan_of(quantized, before), begun(before, facts)
        layout = lay_out_file(self.original, request, plan, before.source.sha256, certificate)
        with PartFile(self.work.part, layout) as part:
            trained = ((name, (shelf / str(number)).read_bytes()) for number, name in enumerate(names))
            certificate = write(part, certificate, self.original, quantized, trained)
            part.rewrite(lay_out_file(self.original, request, plan, before.source.sha256, certificate))
            part.check()
            certificate = self._evaluate(certificate)
            part.rewrite(lay_out_file(self.original, request, plan, before.source.sha256, certificate))
            part.check()
            self.original.require_unchanged()
            self.energy.sample()
            making = Making(
                created=datetime.now(UTC).replace(microsecond=0).isoformat(),
                seconds=round(self.energy.seconds, 3),
                joules=self.energy.joules,
                isa=active_isa(),
            )
            certificate = msgspec.structs.replace(certificate, making=making)
            part.sync()
            publish(part, certificate)
        return Trained(
            request.out,
            certificate,
            layout.size,
            before.figures,
            quantized.model.size_bytes,
            before.bits_per_weight,
        )

    def _evaluate(self, certificate: Certificate) -> Certificate:
        """With figures, where they are asked for: kept as soon as they are known."""
        request = self.request.quantize
        if not (request.evaluation and request.judge):
            return certificate
        earlier = self.work.load(self.work.evaluated, Certificate)
        if earlier is not None and has_figures_for(earlier, certificate):
            return earlier
        evaluation = self.steps.evaluate(
            request,
            self.work.part,
            lambda share: self.on_event(PhaseEvent("evaluate", int(share * 1000), 1000)),
        )
        judged = with_figures(certificate, evaluation)
        self.work.save(self.work.evaluated, judged)
        return judged


def _hash(source: Source, on_event: OnEvent) -> tuple[str, ...]:
    total, done = source.model.size_bytes, 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_event(PhaseEvent("hash", done, total))

    return source.sha256(advance)
