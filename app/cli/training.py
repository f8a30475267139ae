"""From the options of ``train-quant`` to a request, and through its run to a published model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from app.cli.front import Front
from app.errors import WrongUse

if TYPE_CHECKING:
    from app.cli.output import Block
    from app.cli.quantizing import Choices, Made, Planned
    from app.cli.speed import Speed
    from app.models import ResolvedModel
    from app.settings import Settings
    from app.store import Store
    from quant.certificate.document import Certificate, Figures
    from quant.qat.options import Mode
    from quant.qat.request import TrainRequest

Speeds = tuple["Speed | None", "Speed | None"]


@dataclass(frozen=True)
class Training:
    """What a person chose beside the quantization."""

    mode: Mode
    data: str
    minutes: float
    steps: int | None


def train(
    front: Front,
    settings: Settings,
    store: Store,
    found: ResolvedModel,
    choices: Choices,
    training: Training,
    *,
    no_speed: bool,
    verbose: bool,
) -> None:
    """Quantizes and trains ``found``, and prints original, quantized and trained side by side.

    Raises what :func:`app.cli.quantizing.plan_request` and :func:`quant.qat.run.train_quant` raise.
    """
    from app.cli.quantizing import default_name, plan_request, published, target_of
    from app.cli.speed import measure_speed
    from quant.qat.run import train_quant

    if choices.out is None:
        choices = replace(choices, out=f"{default_name(found, target_of(choices))}-trained")
    planned = plan_request(front, store, found, choices, settings)
    request = _request(front, settings, found, planned, training)
    trained = None

    def work(**listeners: Any) -> Any:
        nonlocal trained
        trained = train_quant(request, **listeners)
        return trained

    made = published(front, store, found, planned, work, verbose=verbose)
    assert trained is not None
    speeds = None
    if not no_speed:
        speeds = measure_speed(front, settings, found.paths), measure_speed(front, settings, made.paths)
    document, blocks = _closing(found, made, trained.before, speeds)
    front.out.result(document, *blocks, quiet=[made.name])


def _request(
    front: Front, settings: Settings, found: ResolvedModel, planned: Planned, training: Training
) -> TrainRequest:
    from app.cli.quantize_texts import NONE, calibration_texts
    from quant.allocation.recipe import is_encoded
    from quant.probing import builtin_texts
    from quant.qat.available import precision_for
    from quant.qat.options import TrainOptions
    from quant.qat.request import TrainRequest
    from runtime.gguf import open_model

    if training.data == NONE:
        raise WrongUse(
            "training needs something to learn from; give --data builtin, chats or a file",
            next_command="localq train-quant --help",
        )
    headers = open_model(found.paths).headers
    weights = sum(prod(tensor.shape) for each in headers for tensor in each.tensors if is_encoded(tensor))
    options = TrainOptions(
        mode=training.mode,
        steps=training.steps or 0,
        seed=planned.request.seed,
        precision=precision_for(weights),
        threads=planned.request.jobs,
    )
    return TrainRequest(
        quantize=planned.request,
        options=options,
        data=calibration_texts(front, settings, training.data, 1),
        held_out=builtin_texts(),
        minutes=training.minutes,
    )


def _closing(
    found: ResolvedModel, made: Made, before: Figures | None, speeds: Speeds | None
) -> tuple[dict[str, Any], tuple[Block, ...]]:
    """What is printed at the end: the document, and the table."""
    import msgspec

    from app.cli.output import Fields, Table
    from app.cli.quality import closing

    document, blocks = closing(found, made, speeds)
    after = made.certificate.figures
    rows = list(_rows(document, made.certificate, before, after))
    document["before_training"] = None if before is None else msgspec.to_builtins(before)
    table = Table(("", "ORIGINAL", "QUANTIZED", "TRAINED"), rows, right=frozenset({1, 2, 3}))
    facts = [block for block in blocks if isinstance(block, Fields)]
    return document, (table, "", *facts)


def _rows(
    document: dict[str, Any], certificate: Certificate, before: Figures | None, after: Figures | None
) -> Iterable[tuple[str, ...]]:
    from app.cli.figures import divergence_cells, with_error
    from app.cli.text import format_bytes

    original, trained = document["original"], document["quantized"]
    size = format_bytes(trained["size_bytes"])
    yield "size", format_bytes(original["size_bytes"]), size, size
    bits = f"{trained['bits_per_weight']:.2f}"
    yield "bits per weight", f"{original['bits_per_weight']:.2f}", bits, bits
    if (speed := trained["decode_tokens_per_second"]) is not None:
        theirs = original["decode_tokens_per_second"]
        yield "decode tok/s", "" if theirs is None else f"{theirs:.1f}", "", f"{speed:.1f}"
    if before is None or after is None:
        return
    yield (
        "perplexity",
        with_error(after.original_perplexity, after.original_perplexity_stderr),
        with_error(before.perplexity, before.perplexity_stderr),
        with_error(after.perplexity, after.perplexity_stderr),
    )
    cells = zip(divergence_cells(before), divergence_cells(after), strict=True)
    for title, (first, second) in zip(("KL divergence", "KL 99 %", "same top token"), cells, strict=True):
        yield title, "", first, second
    training = certificate.training
    if training is not None:
        yield "updates", "", "", str(training.steps)
