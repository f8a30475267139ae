"""``localq refit``: a quantized model for another memory, with as little work as that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from app.cli import options
from app.cli.fitting import context_option, fit_options, kv_option, portable_option
from app.cli.front import Front

if TYPE_CHECKING:
    from quant.allocation.planner import Prefer
    from runtime.engine.config import KvType


@click.command("refit")
@click.argument("model")
@options.ram_option
@context_option(multiple=False)
@kv_option
@fit_options
@portable_option(None)
@click.option("--source", metavar="SRC", help="What MODEL was made of, where it is not in the store.")
@click.option("--calib", metavar="chats|FILE", help="What was calibrated with, if not the built-in texts.")
@click.option(
    "--eval",
    "evaluation",
    default="builtin",
    show_default=True,
    metavar="builtin|none|FILE",
    help="Texts to judge the result on; calibration must not have seen them.",
)
@click.option("--out", metavar="PATH|NAME", help="A .gguf file, or a name in the store.")
@options.jobs_option
@options.measure_option
@click.option("--no-speed", is_flag=True, help="Do not run the models at the end.")
@options.verbose_option
@options.output_options
@options.pass_front
def command(
    front: Front,
    model: str,
    ram: int | None,
    context: int | None,
    kv: KvType | None,
    keep_free: int | None,
    prefer: Prefer,
    portable: bool | None,
    source: str | None,
    calib: str | None,
    evaluation: str,
    out: str | None,
    jobs: int | None,
    measure: bool | None,
    no_speed: bool,
    verbose: bool,
) -> None:
    """Make MODEL again for another memory: only tensors whose format changes are encoded.

    MODEL is one that localq quantized, best with --fit-ram. Its source must be in the store still, or be
    given. MODEL itself stays.
    """
    from app.cli.fitting import fit_of, only_portable
    from app.cli.loading import find
    from app.cli.quality import certificate_of
    from app.cli.quantize_texts import BUILTIN, NONE
    from app.cli.quantizing import Choices, make
    from app.cli.rebuild import asked_for, no_certificate, source_of
    from quant.allocation.recipe import uses_words

    settings = front.settings(threads=jobs)
    store, found = find(front, settings, model)
    certificate = certificate_of(store, found)
    if certificate is None:
        raise no_certificate(model)
    asked = asked_for(model, certificate)
    if portable is None:
        portable = not (asked.options.words or uses_words(certificate.target, asked.overrides))
    choices = Choices(
        mixture=None,
        bits_per_weight=None,
        size_bytes=None,
        fit=fit_of(front, True, ram, context, kv, keep_free, prefer),
        calibration=calib or (BUILTIN if certificate.calibration else NONE),
        calibration_tokens=asked.options.calibration_tokens,
        imatrix=None,
        save_imatrix=None,
        evaluation=evaluation,
        evaluation_chunks=asked.options.evaluation_chunks,
        out=out,
        overrides=asked.overrides,
        jobs=jobs,
        seed=certificate.seed,
        portable=only_portable(front, portable, overrides=asked.overrides),
        measure=measure,
        activations=asked.options.activations,
        reuse=found.paths[0],
    )
    with source_of(front, settings, store, found, certificate, source) as original:
        make(front, settings, store, original, choices, no_speed=no_speed, verbose=verbose)
