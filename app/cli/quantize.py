"""``localq quantize``: a smaller model from a larger one, on this machine, and how good it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from app.cli import options
from app.cli.fitting import context_option, fit_options, kv_option, portable_option
from app.cli.front import Front

if TYPE_CHECKING:
    from quant.allocation.planner import Prefer
    from quant.allocation.recipe import Override
    from quant.certificate.document import Activations
    from runtime.engine.config import KvType

DEFAULT_TARGET = "q4_k_m"


class Tensor(click.ParamType["Override"]):
    """``PATTERN=FORMAT``."""

    name = "pattern=format"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Override:
        from quant.allocation.recipe import Override, parse_override

        if isinstance(value, Override):
            return value
        try:
            return parse_override(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("quantize")
@click.argument("source")
@click.option(
    "--to",
    "mixture",
    metavar="FORMAT",
    help="A format, such as q4_k, a mixture of several, such as q4_k_m, or one of localq's own: lt2, lt3, "
    f"lt4.  [default: {DEFAULT_TARGET}]",
)
@click.option(
    "--bpw", type=options.Between(0.5, 16.0), metavar="X", help="The best mixture of X bits for each weight."
)
@click.option(
    "--size", type=options.Size(), metavar="SIZE", help="The best mixture of a file of at most SIZE."
)
@click.option(
    "--fit-ram", is_flag=True, help="The best mixture that runs in this machine's memory, or that of --ram."
)
@options.ram_option
@context_option(multiple=False)
@kv_option
@fit_options
@portable_option(False)
@click.option(
    "--calib",
    metavar="builtin|none|chats|FILE",
    help="Texts to calibrate with: .txt, .md, .jsonl of conversations, or the chats kept on this machine.  "
    "[default: builtin]",
)
@click.option(
    "--calib-tokens",
    type=click.IntRange(512, 1 << 24),
    default=16_384,
    show_default=True,
    metavar="N",
    help="Tokens to calibrate with, the same number of each kind of text.",
)
@click.option(
    "--imatrix",
    metavar="FILE",
    help="Calibrate with an importance matrix of llama.cpp's instead: faster, less exact.",
)
@click.option(
    "--save-imatrix",
    metavar="FILE",
    help="Write what calibration measured for llama.cpp's tools, and for --imatrix.",
)
@click.option(
    "--eval",
    "evaluation",
    default="builtin",
    show_default=True,
    metavar="builtin|none|FILE",
    help="Texts to judge the result on; calibration must not have seen them.",
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
    "--out", metavar="PATH|NAME", help="A .gguf file, or a name in the store.  [default: SOURCE:FORMAT]"
)
@click.option(
    "--tensor",
    "overrides",
    type=Tensor(),
    multiple=True,
    help="Store the tensors that match in a format of your own choice, or 'keep' them; may be repeated.",
)
@click.option(
    "--activations",
    type=click.Choice(["dynamic", "static"]),
    default="dynamic",
    show_default=True,
    help="How localq rounds what matrices multiply: by the values themselves, or with scales that "
    "calibration fixes, which costs quality.",
)
@options.jobs_option
@options.mem_option
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 63) - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Decides which parts of the texts are read, and the signs of LT formats.",
)
@options.measure_option
@click.option("--no-speed", is_flag=True, help="Do not run both models at the end to measure their speed.")
@options.verbose_option
@options.output_options
@options.pass_front
def command(
    front: Front,
    source: str,
    mixture: str | None,
    bpw: float | None,
    size: int | None,
    fit_ram: bool,
    ram: int | None,
    context: int | None,
    kv: KvType | None,
    keep_free: int | None,
    prefer: Prefer,
    portable: bool,
    calib: str | None,
    calib_tokens: int,
    imatrix: str | None,
    save_imatrix: str | None,
    evaluation: str,
    eval_chunks: int,
    out: str | None,
    overrides: tuple[Override, ...],
    activations: Activations,
    jobs: int | None,
    mem: int | None,
    seed: int,
    measure: bool | None,
    no_speed: bool,
    verbose: bool,
) -> None:
    """Make a smaller model of SOURCE, judge it, and certify it.

    SOURCE is a stored name, a path to a GGUF file, best in F16 or BF16, or a folder with safetensors as the
    Hub has them, which is converted first. The result carries a certificate: what it was made of, how, and
    how far it is from SOURCE on texts that calibration has not seen (`localq show MODEL --quality`). It runs
    in any llama.cpp, but for localq's own formats lt1 to lt4: those that --to or --tensor name, and those
    that --bpw, --size and --fit-ram choose without --portable. `localq export` makes a portable file of it.

    With --fit-ram, context, KV cache, buffers and formats are chosen together, so that running the result
    takes what the machine has available (or --ram) and no more; `localq plan SOURCE` says what comes of it.

    The same command goes on where an interrupted one stopped, and ends in the same bytes.
    """
    from app.cli.converting import find_original
    from app.cli.fitting import fit_of, only_portable
    from app.cli.quantizing import Choices, make, target_of

    settings = front.settings(ram=mem, threads=jobs)
    choices = Choices(
        mixture=mixture,
        bits_per_weight=bpw,
        size_bytes=size,
        fit=fit_of(front, fit_ram, ram, context, kv, keep_free, prefer),
        calibration=calib,
        calibration_tokens=calib_tokens,
        imatrix=imatrix,
        save_imatrix=save_imatrix,
        evaluation=evaluation,
        evaluation_chunks=eval_chunks,
        out=out,
        overrides=overrides,
        jobs=jobs,
        seed=seed,
        measure=measure,
        activations=activations,
    )
    target = target_of(choices)  # a wrong option is told before anything is converted
    portable = only_portable(front, portable, mixture=target.mixture, overrides=overrides)
    choices = replace(choices, portable=portable)
    with find_original(front, settings, source) as (store, found):
        make(front, settings, store, found, choices, no_speed=no_speed, verbose=verbose)
