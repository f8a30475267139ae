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
    from quant.calibration.text import CalibrationText
    from quant.certificate.document import Certificate
    from quant.qat.options import Mode
    from quant.qat.request import TrainRequest
    from quant.qat.run import Trained

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
    document, blocks = _closing(found, made, trained, speeds)
    front.out.result(document, *blocks, quiet=[made.name])


def _request(
    front: Front, settings: Settings, found: ResolvedModel, planned: Planned, training: Training
) -> TrainRequest:
    from quant.allocation.recipe import is_encoded
    from quant.probing import builtin_texts
    from quant.qat.available import precision_for
    from quant.qat.options import TrainOptions
    from quant.qat.request import TrainRequest
    from runtime.gguf import open_model

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
        data=_data(front, settings, training.data),
        held_out=builtin_texts(),
        minutes=training.minutes,
    )


def _data(front: Front, settings: Settings, choice: str) -> tuple[CalibrationText, ...]:
    """The texts of ``--data``. Raises InvalidText, WrongUse and ChatsError."""
    from app.chats.calibration import calibration_texts as chats_as_texts
    from app.cli.quantize_texts import CHATS, NONE, calibration_texts

    if choice == NONE:
        raise WrongUse(
            "training needs something to learn from; give --data builtin, chats or a file",
            next_command="localq train-quant --help",
        )
    if choice != CHATS:
        return calibration_texts(front, settings, choice, 1)
    with front.chats(settings) as chats:
        texts = chats_as_texts(chats)
    if not texts:
        raise WrongUse(
            "no chat with an answer is kept on this machine, so there is nothing to learn from; "
            "the terminal app keeps chats, and chats of other programs can be imported",
            next_command="localq chats import --help",
        )
    return texts


def _closing(
    found: ResolvedModel, made: Made, trained: Trained, speeds: Speeds | None
) -> tuple[dict[str, Any], tuple[Block, ...]]:
    """What is printed at the end: the document, and the table."""
    import msgspec

    from app.cli.output import Fields, Table
    from app.cli.quality import closing

    document, blocks = closing(found, made, speeds)
    rows = list(_rows(document, made.certificate, trained))
    document["before_training"] = None if trained.before is None else msgspec.to_builtins(trained.before)
    table = Table(("", "ORIGINAL", "QUANTIZED", "TRAINED"), rows, right=frozenset({1, 2, 3}))
    facts = [block for block in blocks if isinstance(block, Fields)]
    return document, (table, "", *facts)


def _rows(document: dict[str, Any], certificate: Certificate, made: Trained) -> Iterable[tuple[str, ...]]:
    from app.cli.figures import divergence_cells, with_error
    from app.cli.text import format_bytes

    original, trained = document["original"], document["quantized"]
    before, after = made.before, certificate.figures
    sizes = (original["size_bytes"], made.nbytes_before, trained["size_bytes"])
    yield "size", *map(format_bytes, sizes)
    bits = (original["bits_per_weight"], made.bits_per_weight_before, trained["bits_per_weight"])
    yield "bits per weight", *(f"{each:.2f}" for each in bits)
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
