"""``localq train-quant``: a model in few bits, trained here until it is near its original again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from app.cli import options
from app.cli.front import Front
from app.cli.quantize import Tensor
from app.limits import MAX_THREADS

if TYPE_CHECKING:
    from quant.allocation.recipe import Override
    from quant.qat.options import Mode

DEFAULT_TARGET = "q2_0"


@click.command("train-quant")
@click.argument("source")
@click.option(
    "--to",
    "mixture",
    metavar="FORMAT",
    help=f"A format, such as q2_0, tq1_0, q4_0 or lt2.  [default: {DEFAULT_TARGET}]",
)
@click.option(
    "--bpw", type=options.Between(0.5, 16.0), metavar="X", help="The best mixture of X bits for each weight."
)
@click.option(
    "--mode",
    type=click.Choice(["scales", "blocks", "full"]),
    default="full",
    show_default=True,
    help="What learns: scales and norms alone; codes too, layer after layer, with one in memory; or all at "
    "once from the original's predictions. Words of LT formats stay in each of them.",
)
@click.option(
    "--data",
    default="builtin",
    show_default=True,
    metavar="builtin|chats|FILE",
    help="Texts to learn from: .txt, .md, .jsonl of conversations, or the chats kept on this machine.",
)
@click.option(
    "--minutes",
    type=options.Between(0.05, 10_080.0),
    default=30.0,
    show_default=True,
    metavar="N",
    help="About how long to train; quantizing and judging come on top.",
)
@click.option(
    "--steps",
    type=click.IntRange(1, 1 << 30),
    metavar="N",
    help="Train for N updates instead (of each layer, with --mode blocks): the same bytes each time.",
)
@click.option(
    "--eval",
    "evaluation",
    default="builtin",
    show_default=True,
    metavar="builtin|none|FILE",
    help="Texts to judge the result on; training must not have seen them.",
)
@click.option(
    "--eval-chunks",
    type=click.IntRange(2, 1 << 20),
    default=24,
    show_default=True,
    metavar="N",
    help="Chunks of 512 tokens to judge on.",
)
@click.option(
    "--out",
    metavar="PATH|NAME",
    help="A .gguf file, or a name in the store.  [default: SOURCE:FORMAT-trained]",
)
@click.option(
    "--tensor",
    "overrides",
    type=Tensor(),
    multiple=True,
    help="Store the tensors that match in a format of your own choice, or 'keep' them; may be repeated.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, MAX_THREADS),
    metavar="N",
    help="Threads; another number may give other last bits.  [default: one for each physical core]",
)
@options.mem_option
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 63) - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Decides the order in which the texts are read.",
)
@click.option("--no-speed", is_flag=True, help="Do not run both models at the end to measure their speed.")
@options.verbose_option
@options.output_options
@options.pass_front
def command(
    front: Front,
    source: str,
    mixture: str | None,
    bpw: float | None,
    mode: Mode,
    data: str,
    minutes: float,
    steps: int | None,
    evaluation: str,
    eval_chunks: int,
    out: str | None,
    overrides: tuple[Override, ...],
    jobs: int | None,
    mem: int | None,
    seed: int,
    no_speed: bool,
    verbose: bool,
) -> None:
    """Quantize SOURCE, then train the result to predict what SOURCE predicts.

    SOURCE is as for `localq quantize`, of the architectures llama, qwen2 or qwen3. Below three bits for each
    weight rounding alone loses much, and training on this machine wins a part of it back. The result is a
    file of the same formats and size, certified like any other; the closing table shows original, quantized
    and trained side by side.

    Needs torch (localq's extra qat). The same command goes on where an interrupted one stopped.
    """
    from app.cli.converting import find_original
    from app.cli.quantizing import default_choices, target_of
    from app.cli.training import Training, train
    from quant.qat.available import require_torch

    require_torch()
    settings = front.settings(ram=mem, threads=jobs)
    choices = replace(
        default_choices(out, fit=None, portable=True),
        mixture=mixture or (None if bpw else DEFAULT_TARGET),
        bits_per_weight=bpw,
        evaluation=evaluation,
        evaluation_chunks=eval_chunks,
        overrides=overrides,
        jobs=jobs,
        seed=seed,
    )
    target_of(choices)  # a wrong option is told before anything is converted
    with find_original(front, settings, source) as (store, found):
        training = Training(mode, data, minutes, steps)
        train(front, settings, store, found, choices, training, no_speed=no_speed, verbose=verbose)
