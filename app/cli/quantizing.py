"""From the options of ``quantize`` to a request, and through its run to a published model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from app.cli.front import Front
from app.errors import NameTaken, NoSuchModel, WrongUse
from app.paths import expand, require_folder

if TYPE_CHECKING:
    from app.models import ResolvedModel
    from app.settings import Settings
    from app.store import Store
    from quant.allocation.fit import Fit
    from quant.allocation.joint import JointPlan
    from quant.allocation.recipe import Override
    from quant.certificate.document import Activations, Certificate
    from quant.evaluation.result import EvaluationText
    from quant.files.writer import PartFile
    from quant.pipeline import Publish
    from quant.progress import OnEvent
    from quant.request import QuantizeRequest, Target
    from runtime.gguf import GgufHeader

CONTEXT_TOKENS = 512
CALIBRATION_TOKENS = 16_384
EVALUATION_CHUNKS = 24
MOMENT_BYTES = 1 << 30
_ORIGINAL = re.compile(r"[-_.]?(f16|bf16|f32|fp16|fp32)$", re.IGNORECASE)


@dataclass(frozen=True)
class Choices:
    """What a person chose; None is the default."""

    mixture: str | None
    bits_per_weight: float | None
    size_bytes: int | None
    fit: Fit | None
    calibration: str | None
    calibration_tokens: int
    imatrix: str | None
    save_imatrix: str | None
    evaluation: str
    evaluation_chunks: int
    out: str | None
    overrides: tuple[Override, ...]
    jobs: int | None
    seed: int
    portable: bool = False
    """Whether only formats that any llama.cpp runs are chosen."""
    measure: bool | None = None
    """Whether probes test how much each kind of matrix counts; None: in models where that is soon done."""
    activations: Activations = "dynamic"
    reuse: Path | None = None


def default_choices(
    out: str | None, *, fit: Fit | None, portable: bool = False, measure: bool | None = None
) -> Choices:
    """What ``quantize`` takes where nothing is chosen, for the model ``out`` of the store."""
    from app.cli.quantize_texts import BUILTIN

    return Choices(
        mixture=None,
        bits_per_weight=None,
        size_bytes=None,
        fit=fit,
        calibration=None,
        calibration_tokens=CALIBRATION_TOKENS,
        imatrix=None,
        save_imatrix=None,
        evaluation=BUILTIN,
        evaluation_chunks=EVALUATION_CHUNKS,
        out=out,
        overrides=(),
        jobs=None,
        seed=0,
        portable=portable,
        measure=measure,
    )


@dataclass(frozen=True)
class Planned:
    """A request, and the name that its result gets in the store; None for a file."""

    request: QuantizeRequest
    name: str | None


@dataclass(frozen=True)
class Made:
    """A published model."""

    name: str
    """In the store, or the file's path."""
    paths: tuple[Path, ...]
    certificate: Certificate
    nbytes: int
    resumed_tensors: int
    stored: bool
    imatrix: Path | None
    """The importance matrix that was written."""


def make(
    front: Front,
    settings: Settings,
    store: Store,
    found: ResolvedModel,
    choices: Choices,
    *,
    no_speed: bool,
    verbose: bool,
) -> Made:
    """Quantizes ``found``, proves what was fitted to a memory, and prints original beside quantized.

    Raises what :func:`plan_request` and :func:`run` raise.
    """
    from app.cli.proof import prove
    from app.cli.quality import closing
    from app.cli.speed import measure_speed

    planned = plan_request(front, store, found, choices, settings)
    made = run(front, store, found, planned, verbose=verbose)
    speeds = None
    if not no_speed:
        if (fit := planned.request.target.fit) is not None:
            made = prove(front, store, settings, made, fit)
        speeds = measure_speed(front, settings, found.paths), measure_speed(front, settings, made.paths)
    document, blocks = closing(found, made, speeds)
    front.out.result(document, *blocks, quiet=[made.name])
    return made


def plan_request(
    front: Front, store: Store, found: ResolvedModel, choices: Choices, settings: Settings
) -> Planned:
    """The request for ``choices``. Raises WrongUse, InvalidName, NameTaken, InvalidText and GgufError."""
    from app.cli.quantize_imatrix import imatrix_to_take, imatrix_to_write
    from app.cli.quantize_texts import BUILTIN, NONE, calibration_texts, evaluation_texts, probing_texts
    from app.version import VERSION
    from quant.allocation.learned import read_learned
    from quant.request import QuantizeRequest
    from runtime.gguf import open_model
    from runtime.hardware import usable_cores

    header = open_model(found.paths).header
    if choices.fit is not None:
        learned = read_learned(store.home, header.architecture)
        choices = replace(choices, fit=replace(choices.fit, learned=learned))
    target = target_of(choices)
    calibration = choices.calibration or (NONE if choices.imatrix else BUILTIN)
    evaluation = evaluation_texts(choices.evaluation)
    _require_chunks(front, choices.evaluation_chunks, evaluation)
    name, path = _destination(store, found, choices.out, target)
    trained = header.hyper_int("context_length") or CONTEXT_TOKENS
    request = QuantizeRequest(
        source=found.paths,
        target=target,
        out=path,
        tool=VERSION,
        overrides=choices.overrides,
        portable=choices.portable,
        calibration=calibration_texts(front, settings, calibration, choices.calibration_tokens),
        calibration_tokens=choices.calibration_tokens,
        imatrix=imatrix_to_take(choices.imatrix, choices.calibration),
        save_imatrix=imatrix_to_write(choices.save_imatrix, calibration),
        evaluation=evaluation,
        evaluation_chunks=choices.evaluation_chunks,
        probing=probing_texts(choices.measure, target, found),
        context_tokens=min(CONTEXT_TOKENS, trained),
        seed=choices.seed,
        activations=choices.activations,
        moment_bytes=min(MOMENT_BYTES, (settings.ram or MOMENT_BYTES * 4) // 4),
        jobs=choices.jobs or usable_cores().physical,
        memory_bytes=settings.ram,
        work=store.work if name else None,
        reuse=choices.reuse,
        copies=2 if name else 1,
    )
    if name is None:
        require_folder(path)
    if choices.fit is not None and found.source is None:  # else it was said before it was fetched
        headers = open_model(found.paths).headers
        foresee(front, settings, store, headers, choices.fit, words=request.chooses_words)
    return Planned(request, name)


def foresee(
    front: Front,
    settings: Settings,
    store: Store,
    headers: Sequence[GgufHeader],
    fit: Fit,
    *,
    words: bool,
    quiet: bool = False,
) -> JointPlan:
    """Says what will come of it, unless ``quiet``. Raises DoesNotFit before the work begins."""
    from app.cli.fitting import foreseen, sentence, speeds_here
    from quant.allocation.fit import plan_fit
    from runtime.hardware import this_machine

    speeds = speeds_here(settings).scaled(fit.learned.speed)
    machine = this_machine(ram=fit.memory_bytes)
    plan = plan_fit(foreseen(headers, words=words), fit, machine, speeds=speeds)
    if not quiet:
        front.out.note(sentence(plan, speeds))
    return plan


def _require_chunks(front: Front, chunks: int, texts: tuple[EvaluationText, ...]) -> None:
    """Raises before hours of work what evaluation would raise behind them, as far as can be told."""
    from app.cli.again import again
    from quant.errors import TextTooShort
    from quant.evaluation.result import LEAST_CHUNKS

    least = LEAST_CHUNKS * len(texts)
    if chunks < least:
        raise WrongUse(
            f"{chunks} chunks of {len(texts)} texts have no error bars: {least} are the least",
            next_command=again(front, "--eval-chunks", str(least)),
        )
    needed = LEAST_CHUNKS * CONTEXT_TOKENS
    for text in texts:
        if (most := len(text.text.encode("utf-8", "replace"))) < needed:  # a token has a byte or more
            raise TextTooShort(
                f"the evaluation text {text.name} has {most} bytes, too few for {needed} tokens; "
                "give a longer one",
                step="evaluation",
                tokens=most,
                needed_tokens=needed,
            )


def target_of(choices: Choices) -> Target:
    """What ``--to``, ``--bpw``, ``--size`` or ``--fit-ram`` asks for. Raises WrongUse for several."""
    from app.cli.quantize import DEFAULT_TARGET
    from quant.allocation.recipe import MIXTURES
    from quant.request import Target

    given = [choices.mixture, choices.bits_per_weight, choices.size_bytes, choices.fit]
    if given.count(None) < 3:
        raise WrongUse(
            "--to, --bpw, --size and --fit-ram each decide all formats; give one of them",
            next_command="localq quantize --help",
        )
    if choices.bits_per_weight is not None:
        return Target(bits_per_weight=choices.bits_per_weight)
    if choices.size_bytes is not None:
        return Target(size_bytes=choices.size_bytes)
    if choices.fit is not None:
        return Target(fit=choices.fit)
    mixture = (choices.mixture or DEFAULT_TARGET).lower()
    if mixture not in MIXTURES:
        import difflib

        near = difflib.get_close_matches(mixture, MIXTURES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise WrongUse(
            f"there is no format {mixture!r}{hint} There are {', '.join(MIXTURES)}",
            next_command="localq quantize --help",
        )
    return Target(mixture)


def _destination(
    store: Store, found: ResolvedModel, out: str | None, target: Target
) -> tuple[str | None, Path]:
    """A name in the store and a nominal file of that name, or None and the path of a file."""
    from app.models import require_unicode
    from app.store.names import check_name

    if out is not None and (out.endswith(".gguf") or out.startswith(("/", ".", "~"))):
        path = expand(out).absolute()
        require_unicode(path)
        return None, path
    name = check_name(out or default_name(found, target))
    try:
        store.get(name)
    except NoSuchModel:
        return name, store.work / f"{re.sub('[/:]', '-', name)}.gguf"
    raise NameTaken(name)


def default_name(found: ResolvedModel, target: Target) -> str:
    """``smollm:q4_k_m`` for ``smollm-f16.gguf``. Raises InvalidName."""
    from app.cli.import_ import default_name as name_of_file

    base = found.manifest.name if found.manifest else name_of_file(found.paths[0])
    stem = _ORIGINAL.sub("", base.partition(":")[0]) or base.partition(":")[0]
    return f"{stem}:{tag(target)}"


def tag(target: Target) -> str:
    """``q4_k_m``, ``4.5bpw``, ``2g``, ``fit``, ``fit-6g``."""
    if target.fit is not None:
        return f"fit-{_size_tag(target.fit.memory_bytes)}" if target.fit.memory_bytes else "fit"
    if target.mixture is not None:
        return target.mixture
    if target.bits_per_weight is not None:
        return f"{target.bits_per_weight:g}bpw"
    return _size_tag(target.size_bytes or 0)


def _size_tag(size: int) -> str:
    for power, unit in ((30, "g"), (20, "m")):
        if size % (1 << power) == 0:
            return f"{size >> power}{unit}"
    return f"{size >> 10}k"


def run(front: Front, store: Store, found: ResolvedModel, planned: Planned, *, verbose: bool) -> Made:
    """Quantizes and publishes. Raises what :func:`quant.pipeline.quantize` and the store raise."""
    from functools import partial

    from quant.pipeline import quantize

    return published(front, store, found, planned, partial(quantize, planned.request), verbose=verbose)


class Result(Protocol):
    """What came of the work."""

    @property
    def path(self) -> Path: ...
    @property
    def certificate(self) -> Certificate: ...
    @property
    def nbytes(self) -> int: ...


class MakeFile(Protocol):
    """Does the work, tells of it, and lets ``publish`` give the file its place; None: under its own name."""

    def __call__(self, *, on_event: OnEvent, publish: Publish | None) -> Result: ...


def published(
    front: Front, store: Store, found: ResolvedModel, planned: Planned, work: MakeFile, *, verbose: bool
) -> Made:
    """What ``work`` makes, in the store where ``planned`` has a name for it. Raises what both raise."""
    from app.cli.quantize_progress import shown
    from quant.certificate.document import to_json

    request, name = planned.request, planned.name
    if name is not None:
        request.out.parent.mkdir(parents=True, exist_ok=True)

    def into_store(part: PartFile, certificate: Certificate) -> None:
        from app.store import ChatDefaults, Source

        known = found.source or (found.manifest.source if found.manifest else None)
        manifest = store.import_file(
            part.path,
            name or "",
            source=Source(
                kind="quantized",
                origin=found.name if known else str((found.folder or found.paths[0]).absolute()),
                license=known.license if known else None,
                url=known.url if known else None,
                version=str(request.target),
            ),
            defaults=found.manifest.defaults if found.manifest else ChatDefaults(),
        )
        store.keep_certificate(manifest, to_json(certificate))

    with shown(front, found.name, verbose) as show:
        try:
            result = work(on_event=show, publish=into_store if name else None)
        except KeyboardInterrupt:
            front.out.note("Interrupted; what is finished is kept, and the same command goes on with it.")
            raise
    paths = store.paths(store.get(name)) if name else (result.path,)
    return Made(
        name=name or str(result.path),
        paths=paths,
        certificate=result.certificate,
        nbytes=result.nbytes,
        resumed_tensors=getattr(result, "resumed_tensors", 0),
        stored=name is not None,
        imatrix=request.save_imatrix,
    )
