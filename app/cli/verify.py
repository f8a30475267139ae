"""``localq verify``: does the store still hold what was put in?"""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


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
    from app.cli.output import Styled, Table
    from app.cli.text import plural

    with front.out.progress("reading the store") as progress:
        problems = front.store().verify(models or None, progress.advance)
    harmful = [problem for problem in problems if not problem.harmless]
    leftovers = len(problems) - len(harmful)
    rows = [
        (
            Styled(problem.kind, "yellow" if problem.harmless else "red"),
            ", ".join(problem.models) or "-",
            problem.path,
            problem.detail,
        )
        for problem in problems
    ]
    table = Table(("PROBLEM", "MODELS", "FILE", "DETAIL"), rows)
    front.out.result(
        {"ok": not harmful, "problems": [msgspec.to_builtins(problem) for problem in problems]},
        table if rows else "Everything is as it was stored.",
        quiet=[problem.path for problem in problems],
    )
    if harmful:
        broken = sorted({name for problem in harmful for name in problem.models})
        front.out.note(
            f"{plural(len(harmful), 'problem')}. To repair a model import or fetch it again.",
            f"next: localq rm {' '.join(broken)}" if broken else "next: localq list",
        )
        raise click.exceptions.Exit(FAILED)
    if leftovers:
        front.out.note(f"{plural(leftovers, 'leftover')} that no model needs.", "next: localq gc")
