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
from quant.certificate.certify import with_figures
from quant.certificate.document import Certificate, Figures, Making, TrainingFacts
from quant.certificate.first import domains
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
from quant.qat.data import TrainingData, read_data, require_enough
from quant.qat.end_to_end import Lesson, original_states
from quant.qat.export import begun, plan_of, write
from quant.qat.llama import output_name
from quant.qat.memory import needed_disk, require_memory
from quant.qat.options import TrainOptions
from quant.qat.progress import Check, OnCheck
from quant.qat.request import Schedule, TrainRequest, steps_within
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
        require_disjoint(request.quantize.evaluation, request.data, characters)
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
            data = self._read()
            checks: list[Check] = []

            def heard(check: Check) -> None:
                checks.append(check)
                self.on_event(CheckEvent(check.step, check.loss, check.layer))

            students = self._train(quantized, data, heard)
            return self._write(quantized, before, data, students, checks, publish)

    def _quantize(self) -> Path:
        path = self.work.folder / "quantized.gguf"
        if not path.exists():
            request = replace(self.request.quantize, out=path, work=self.work.folder, copies=1)
            quantize(request, on_event=self.on_event, steps=self.steps)
        return path

    def _read(self) -> TrainingData:
        return read_data(
            self.original.model,
            self.request.data,
            self.request.held_out,
            self.request.quantize.context_tokens,
            self.work.folder / "tokens.i32",
            lambda share: self.on_event(PhaseEvent("read", int(share * 1000), 1000)),
        )

    def _train(self, quantized: Source, data: TrainingData, heard: OnCheck) -> Iterator[Student]:
        """The parts of the model in their best states, one after the other."""
        options = self.request.options
        chunks = len(data.training) + len(data.held_out)
        context = data.training.shape[1]
        require_room(self.work.folder, needed_disk(self.shape, self.original, options, chunks, context))
        dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
        if options.mode == "blocks":
            return self._train_blocks(quantized, data, dtype, heard)
        return self._train_whole(quantized, data, dtype, heard)

    def _train_blocks(
        self, quantized: Source, data: TrainingData, dtype: Any, heard: OnCheck
    ) -> Iterator[Student]:
        whole = np.concatenate((data.training, data.held_out))
        streams = Streams(self.work.folder, self.shape, whole, len(data.held_out))

        def seconds() -> float:
            student = read_student(
                self.original,
                quantized,
                codes=True,
                dtype=dtype,
                wanted=lambda name: name.startswith("blk.0."),
            )
            ones = np.broadcast_to(np.float32(1), (*whole.shape, self.shape.width))  # takes no memory
            sample = blocks.Sample(ones, ones, len(data.held_out))
            return blocks.seconds_of_update(student, self.shape, 0, sample, self.request.options)

        options = self._scheduled(seconds, self.shape.layers, monotonic())
        yield from blocks.train_blocks(
            self.original, quantized, streams, options, dtype, on_step=self._stepped, on_check=heard
        )

    def _train_whole(
        self, quantized: Source, data: TrainingData, dtype: Any, heard: OnCheck
    ) -> Iterator[Student]:
        began = monotonic()
        lesson = self._lesson(data, dtype)
        options = self.request.options
        student = read_student(self.original, quantized, codes=options.mode == "full", dtype=dtype)
        options = self._scheduled(lambda: end_to_end.seconds_of_update(student, lesson, options), 1, began)
        end_to_end.train(student, lesson, options, self.work.folder, on_step=self._stepped, on_check=heard)
        yield student

    def _lesson(self, data: TrainingData, dtype: Any) -> Lesson:
        weights = read_weights(self.original, dtype)

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
            chunks=data.training,
            states=states(data.training, "training"),
            held_out=data.held_out,
            held_states=states(data.held_out, "held-out"),
        )

    def _scheduled(self, seconds: Callable[[], float], layers: int, began: float) -> TrainOptions:
        """The options with their number of steps, which an earlier run may have decided."""
        options = self.request.options
        if options.steps:
            return options
        path = self.work.folder / "schedule.json"
        saved = self.work.load(path, Schedule)
        if saved is None:
            of_update = seconds()
            left = self.request.minutes * 60 - (monotonic() - began)
            saved = Schedule(steps_within(left, of_update, layers))
            self.work.save(path, saved)
        return msgspec.structs.replace(options, steps=saved.steps)

    def _stepped(self, done: int, total: int) -> None:
        self.on_event(PhaseEvent("train", done, total))

    def _write(
        self,
        quantized: Source,
        before: Certificate,
        data: TrainingData,
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
                (shelf / str(len(names))).write_bytes(packed)
                names.append(name)
        facts = self._facts(before, data, checks)
        if not facts.steps:
            self.on_event(WarningEvent("no update made it better on the held-out text: it is as quantized"))
        plan, certificate = plan_of(quantized, before), begun(before, facts)
        layout = lay_out_file(self.original, request, plan, before.source.sha256, certificate)
        with PartFile(self.work.part, layout) as part:
            trained = ((name, (shelf / str(number)).read_bytes()) for number, name in enumerate(names))
            certificate = write(part, certificate, self.original, quantized, trained)
            part.rewrite(lay_out_file(self.original, request, plan, before.source.sha256, certificate))
            part.check()
            if request.evaluation and request.judge:
                evaluation = self.steps.evaluate(
                    request,
                    self.work.part,
                    lambda share: self.on_event(PhaseEvent("evaluate", int(share * 1000), 1000)),
                )
                certificate = with_figures(certificate, evaluation)
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
        return Trained(request.out, certificate, layout.size, before.figures)

    def _facts(self, before: Certificate, data: TrainingData, checks: Sequence[Check]) -> TrainingFacts:
        figures = before.figures
        best = _best(checks)
        options = self.request.options
        if not options.steps and (saved := self.work.load(self.work.folder / "schedule.json", Schedule)):
            options = msgspec.structs.replace(options, steps=saved.steps)
        return TrainingFacts(
            options=str(options),
            steps=max(check.step for check in best),
            texts=tuple(
                msgspec.structs.replace(text, tokens=data.domain_tokens.get(text.name, 0))
                for text in domains(self.request.data)
            ),
            held_out=_mean([check.loss for check in best]),
            held_out_before=_mean([check.loss for check in checks if check.step == 0]),
            kl_before=figures.kl_mean if figures else None,
            kl_before_stderr=figures.kl_stderr if figures else None,
            perplexity_before=figures.perplexity if figures else None,
            perplexity_before_stderr=figures.perplexity_stderr if figures else None,
        )


def _hash(source: Source, on_event: OnEvent) -> tuple[str, ...]:
    total, done = source.model.size_bytes, 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_event(PhaseEvent("hash", done, total))

    return source.sha256(advance)


def _best(checks: Sequence[Check]) -> list[Check]:
    """The best check of each layer, or of all."""
    found: dict[int | None, Check] = {}
    for check in checks:
        if check.layer not in found or check.loss < found[check.layer].loss:
            found[check.layer] = check
    return list(found.values())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
