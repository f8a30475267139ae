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
@options.output_options
@options.pass_front
def command(front: Front, models: tuple[str, ...]) -> None:
    """Read every byte of MODELS again, or of the whole store, and compare it with its hash.

    Exit code 1 if a model cannot be used any more; what is only left over is no failure.
    """
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
