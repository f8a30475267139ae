"""``localq eval``: how good a model is, by itself and against the original that it was made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli import options
from app.cli.front import Front
from app.limits import MAX_CONTEXT_TOKENS
from app.paths import expand

if TYPE_CHECKING:
    from app.cli.output import Block
    from quant.evaluation.result import Evaluation, EvaluationText, Figures
    from runtime.engine.config import KvType

DEFAULT_CHUNKS = 24
LOWER_BOUND = (
    "the divergence is a lower bound, for both models do not fit into memory at once: it is over the 256 "
    "likeliest tokens at each position and all others as one"
)


@click.command("eval")
@click.argument("model")
@click.option("--against", metavar="ORIGINAL", help="The model that MODEL was made of, to compare with.")
@click.option(
    "--text",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A .txt, .md or .jsonl file to read instead of the built-in texts; may be given more than once.",
)
@click.option(
    "--chunks",
    type=click.IntRange(2, 1 << 30),
    default=DEFAULT_CHUNKS,
    show_default=True,
    metavar="N",
    help="Chunks to read, spread evenly over the texts.",
)
@click.option(
    "--ctx",
    "context",
    type=click.IntRange(16, MAX_CONTEXT_TOKENS),
    default=512,
    show_default=True,
    metavar="TOKENS",
    help="Length of a chunk; its second half is scored.",
)
@options.kv_option
@options.threads_option
@options.ram_option
@options.output_options
@options.pass_front
def command(
    front: Front,
    model: str,
    against: str | None,
    files: tuple[Path, ...],
    chunks: int,
    context: int,
    kv: KvType | None,
    threads: int | None,
    ram: int | None,
) -> None:
    """Measure how well MODEL predicts text, and how far it is from the ORIGINAL that it was made of.

    MODEL and ORIGINAL are stored names or paths to GGUF files. Perplexity is comparable between models of one
    vocabulary only. The KL divergence (in nats, 0 = the same) and the share of tokens where both hold the
    same one for the likeliest say what quantization has cost. Errors (±) are standard errors over chunks.
    With --kv MODEL keeps its keys and values so, ORIGINAL always in f16: against itself, that shows what a
    smaller cache costs.

    The built-in texts are prose, code, dialogue, and kinds of text that calibration has never seen.
    """
    from app.cli.again import again
    from app.cli.eta import Eta
    from app.cli.loading import find
    from app.errors import WrongUse
    from quant.evaluation.evaluate import evaluate
    from quant.evaluation.result import LEAST_CHUNKS
    from runtime.errors import InvalidRequest
    from runtime.hardware import this_machine

    settings = front.settings(threads=threads, ram=ram)
    texts = read_texts(tuple(map(expand, files)))
    original = find(front, settings, against)[1] if against is not None else None
    judged = find(front, settings, model)[1]
    started = time.monotonic()
    eta = Eta()
    with front.out.progress(f"evaluating {judged.name}") as progress:
        try:
            evaluation = evaluate(
                judged.paths,
                against=original.paths if original else None,
                texts=texts,
                context=context,
                chunks=chunks,
                threads=settings.threads,
                memory_bytes=this_machine(ram=settings.ram).memory.available,
                kv_type=kv or "f16",
                on_progress=lambda share: progress.say(f"{share:.0%}{eta.after(share)}"),
            )
        except InvalidRequest as error:
            enough = again(front, "--chunks", str(LEAST_CHUNKS * len(texts)))
            help_command = enough if error.field == "chunks" else "localq eval --help"
            raise WrongUse(str(error), next_command=help_command) from error
    name = original.name if original else None
    document = _document(judged.name, name, evaluation, time.monotonic() - started)
    value = evaluation.perplexity if evaluation.kl_mean is None else evaluation.kl_mean
    front.out.result(document, *blocks(judged.name, name, evaluation), quiet=[f"{value:.6g}"])


def read_texts(files: tuple[Path, ...], named: Callable[[Path], str] = str) -> tuple[EvaluationText, ...]:
    """The built-in texts by domain, or each of ``files`` as a text of its own. Raises InvalidText."""
    from quant.calibration import texts
    from quant.calibration.domains import by_domain
    from quant.evaluation.result import EvaluationText
    from quant.names import plain_name

    running: dict[str, str] = {} if files else by_domain(texts.builtin("evaluation"))
    for path in files:
        name = plain_name(named(path))
        found = texts.read_texts(path, domain=name)
        # A document stays as it is, byte for byte; only conversations become a running text.
        running |= {name: found[0].text} if len(found) == 1 and found[0].text else by_domain(found)
    return tuple(EvaluationText(domain, text) for domain, text in running.items())


def _document(name: str, original: str | None, evaluation: Evaluation, seconds: float) -> dict[str, Any]:
    from app.version import VERSION

    facts = {"model": name, "against": original}
    return {**facts, **asdict(evaluation), "seconds": seconds, "localq": VERSION}


def blocks(name: str, original: str | None, evaluation: Evaluation) -> tuple[Block, ...]:
    """An evaluation as a person reads it."""
    from app.cli.figures import DIVERGENCE_TITLES, with_error
    from app.cli.output import Fields, Table

    compared = evaluation.kl_mean is not None
    header = ("", "TOKENS", "PERPLEXITY", *DIVERGENCE_TITLES)
    rows = [_row(text.name, text) for text in evaluation.texts]
    if len(rows) > 1:
        rows.append(_row("all", evaluation))
    columns = len(header) if compared else 3
    table = Table(header[:columns], [row[:columns] for row in rows], right=frozenset(range(1, columns)))
    facts = [("model", name)]
    if original is not None and evaluation.original_perplexity is not None:
        theirs = with_error(evaluation.original_perplexity, evaluation.original_perplexity_stderr)
        ratio = with_error(evaluation.perplexity_ratio, evaluation.perplexity_ratio_stderr)
        facts.append(("against", f"{original}, perplexity {theirs}; ratio {ratio}"))
    if evaluation.kl_kind != "full":
        facts.append(("note", LOWER_BOUND))
    return table, "", Fields(facts)


def _row(name: str, figures: Figures) -> tuple[str, ...]:
    from app.cli.figures import divergence_cells, with_error

    perplexity = with_error(figures.perplexity, figures.perplexity_stderr)
    return name, f"{figures.tokens:,}", perplexity, *divergence_cells(figures)
