"""``localq export``: a stored model as one GGUF that any llama.cpp runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli import options
from app.cli.front import Front
from app.errors import WrongUse

if TYPE_CHECKING:
    from app.models import ResolvedModel
    from app.store import Store

KIND = "gguf"
PLAIN = "f16"
"""As a type: what is packed becomes F16, all else stays."""


@click.command("export")
@click.argument("model")
@click.option(
    "--to",
    "target",
    required=True,
    metavar="gguf:TYPE",
    help="A type of ggml, such as gguf:q4_k, a mixture, such as gguf:q4_k_m, or gguf:f16.",
)
@click.option("--out", metavar="PATH", help="The file.  [default: MODEL-TYPE.gguf in this folder]")
@click.option(
    "--calib",
    default="none",
    show_default=True,
    metavar="none|builtin|chats|FILE",
    help="Texts to calibrate with; without any, weights are rounded to nearest.",
)
@click.option(
    "--eval",
    "evaluation",
    default="none",
    show_default=True,
    metavar="none|builtin|FILE",
    help="Texts to compare the file with MODEL on.",
)
@options.jobs_option
@options.mem_option
@options.verbose_option
@options.output_options
@options.pass_front
def command(
    front: Front,
    model: str,
    target: str,
    out: str | None,
    calib: str,
    evaluation: str,
    jobs: int | None,
    mem: int | None,
    verbose: bool,
) -> None:
    """Write MODEL as a GGUF in ggml's own types, which any llama.cpp runs.

    MODEL is a stored name or a path to a GGUF file. Matrices in localq's own LT formats are stored in TYPE,
    with the error that this adds; what takes no more bits already stays as it is. The original, quantized to
    TYPE, gives a better file: take it where it is at hand.
    """
    from app.cli.loading import find
    from app.cli.quantize_texts import NONE
    from app.cli.quantizing import default_choices, make
    from runtime.gguf import open_model

    settings = front.settings(ram=mem, threads=jobs)
    mixture = _mixture(target)
    store, found = find(front, settings, model)
    path = Path(out) if out is not None else _default_path(found, target)
    if open_model(found.paths).header.activations:
        front.out.note(
            f"{found.name} has static activation scales, which only localq reads: the file gets none, and is"
            " judged without"
        )
    with _runnable(store, found, calib != NONE, jobs) as original:
        choices = replace(
            default_choices(str(path.absolute()), fit=None),
            mixture=mixture,
            calibration=calib,
            evaluation=evaluation,
            jobs=jobs,
        )
        make(front, settings, store, original, choices, no_speed=True, verbose=verbose)


def _mixture(target: str) -> str:
    """What ``quantize --to`` would take. Raises WrongUse."""
    from quant.allocation.recipe import KEEP, MIXTURES
    from quant.formats.lt import LT_FORMATS

    kind, colon, name = target.lower().partition(":")
    if name == PLAIN:
        name = KEEP
    portable = [each for each in MIXTURES if each not in LT_FORMATS]
    if kind != KIND or not colon or name not in portable:
        named = ", ".join(f"{KIND}:{each}" for each in [PLAIN, *portable] if each != KEEP)
        raise WrongUse(
            f"nothing is exported to {target!r}; there are {named}", next_command="localq export --help"
        )
    return name


def _default_path(found: ResolvedModel, target: str) -> Path:
    name = found.name.removesuffix(".gguf").replace("/", "-").replace(":", "-")
    return Path(f"{name}-{target.lower().partition(':')[2]}.gguf")


@contextmanager
def _runnable(
    store: Store, found: ResolvedModel, calibrates: bool, jobs: int | None
) -> Iterator[ResolvedModel]:
    """The model itself, or, where calibration has to run it, a copy that calibration can watch."""
    from app.version import VERSION
    from quant.allocation.recipe import KEEP
    from quant.pipeline import quantize
    from quant.request import QuantizeRequest, Target
    from runtime.gguf import open_model
    from runtime.hardware import usable_cores

    if not calibrates or open_model(found.paths).packed is None:
        yield found
        return
    with store.scratch() as folder:
        path = folder / _default_path(found, f"{KIND}:{PLAIN}").name
        request = QuantizeRequest(
            found.paths, Target(KEEP), path, VERSION, jobs=jobs or usable_cores().physical
        )
        quantize(request)
        yield replace(found, paths=(path,))
