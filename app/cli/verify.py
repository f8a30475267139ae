"""``localq verify``: does the store still hold what was put in?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from app.cli import options
from app.cli.front import Front

if TYPE_CHECKING:
    from app.cli.output import Block
    from app.store import Problem


@click.command("verify")
@click.argument("models", nargs=-1)
@click.option(
    "--rebuild", is_flag=True, help="Quantize one model again from its source, and compare the weights."
)
@click.option("--source", metavar="SRC", help="With --rebuild: the source, where it is not in the store.")
@click.option("--calib", metavar="chats|FILE", help="With --rebuild: what was calibrated with.")
@click.option("--imatrix", metavar="FILE", help="With --rebuild: the importance matrix that was taken.")
@options.output_options
@options.pass_front
def command(
    front: Front,
    models: tuple[str, ...],
    rebuild: bool,
    source: str | None,
    calib: str | None,
    imatrix: str | None,
) -> None:
    """Read every byte of MODELS again, or of the whole store, and compare it with its hash.

    With --rebuild, MODELS is one that localq quantized, stored or a path: it is made again in a scratch
    folder, from the same source in the same way, and its weights are compared.

    Exit code 1 if a model cannot be used any more, or is not the same when made again; what is only left
    over is no failure.
    """
    if rebuild:
        _rebuild(front, models, source, calib, imatrix)
        return
    if source or calib or imatrix:
        raise click.UsageError("--source, --calib and --imatrix belong to --rebuild")
    import msgspec

    from app.cli.errors import FAILED
    from app.cli.text import plural

    with front.out.progress("reading the store") as progress:
        problems = front.store().verify(models or None, progress.advance)
    harmful = [problem for problem in problems if not problem.harmless]
    leftovers = len(problems) - len(harmful)
    front.out.result(
        {"ok": not harmful, "problems": [msgspec.to_builtins(problem) for problem in problems]},
        *(_blocks(problems) if problems else ["Everything is as it was stored."]),
        quiet=[problem.path for problem in problems],
    )
    if harmful:
        repairs = dict.fromkeys(problem.next_command for problem in harmful if problem.next_command)
        front.out.note(f"{plural(len(harmful), 'problem')}.", f"next: {' && '.join(repairs)}")
        raise click.exceptions.Exit(FAILED)
    if leftovers:
        front.out.note(f"{plural(leftovers, 'leftover')} that no model needs.", "next: localq gc")


def _rebuild(
    front: Front, models: tuple[str, ...], source: str | None, calib: str | None, imatrix: str | None
) -> None:
    from app.cli.errors import FAILED
    from app.cli.output import Fields, Styled
    from app.cli.rebuild import rebuild
    from app.cli.text import plural, shorten_digests

    if len(models) != 1:
        raise click.UsageError("--rebuild takes one model")
    rebuilt = rebuild(front, front.settings(), models[0], source, calib, imatrix)
    verdict = Styled("the same weights", "green") if rebuilt.same else Styled("other weights", "red")
    rows = [
        ("model", rebuilt.name),
        ("verdict", verdict),
        ("expected", f"sha256 {shorten_digests(rebuilt.expected_sha256)}"),
        ("found", f"sha256 {shorten_digests(rebuilt.found_sha256)}"),
        *([("reason", rebuilt.reason)] if rebuilt.reason else []),
        *([("differ", plural(len(rebuilt.differing), "tensor"))] if rebuilt.differing else []),
    ]
    front.out.result(rebuilt.document(), Fields(rows), quiet=[rebuilt.found_sha256])
    if not rebuilt.same:
        raise click.exceptions.Exit(FAILED)


def _blocks(problems: Sequence[Problem]) -> list[Block]:
    """One block a problem; digests as short as they can be told apart."""
    from app.cli.output import Fields, Styled
    from app.cli.text import shorten_digests

    blocks: list[Block] = []
    for problem in problems:
        rows = [
            ("problem", Styled(problem.kind, "yellow" if problem.harmless else "red")),
            *([("models", ", ".join(problem.models))] if problem.models else []),
            ("file", shorten_digests(problem.path)),
            ("detail", shorten_digests(problem.detail)),
        ]
        blocks += [*([""] if blocks else []), Fields(rows)]
    return blocks
