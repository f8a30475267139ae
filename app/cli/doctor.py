"""``localq doctor``: what this machine can do, what is wrong, and what to do about it."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("doctor")
@click.option(
    "--measure",
    is_flag=True,
    help="Measure the memory's bandwidth too: half a second, with 256 MiB a thread, at most 2 GiB.",
)
@click.option(
    "--fix",
    is_flag=True,
    help="Run the commands that mend llama.cpp and the kernels, then look again. Models and chats stay.",
)
@options.output_options
@options.pass_front
def command(front: Front, measure: bool, fix: bool) -> None:
    """Check versions, processor, memory, load and store; say what to do for each finding.

    Exit code 1 if something is broken. --quiet prints only what needs a look.
    """
    from dataclasses import asdict

    from app.cli.errors import FAILED
    from app.cli.examine import examine
    from app.cli.mending import mend, needed
    from app.cli.output import Fields, Styled

    styles = {"note": "dim", "warning": "yellow", "broken": "red"}
    with front.out.progress("looking at this machine"):
        seen = examine(front, measure=measure)
    if fix and (commands := needed(seen.findings)):
        mend(front, commands)
        with front.out.progress("looking again"):
            seen = examine(front, measure=measure)
    broken = [finding for finding in seen.findings if finding.status == "broken"]
    pairs: list[tuple[str, str]] = []
    for finding in seen.findings:
        if finding.status == "ok":
            pairs.append((finding.subject, finding.detail))
            continue
        advice = f"\nnext: {finding.next_command}" if finding.next_command else ""
        text = f"{finding.status}: {finding.detail}{advice}"
        pairs.append((finding.subject, Styled(text, styles[finding.status])))
    front.out.result(
        {"ok": not broken, "findings": [asdict(finding) for finding in seen.findings], **seen.facts},
        Fields(pairs),
        quiet=[
            f"{finding.status}: {finding.subject}: {finding.detail.splitlines()[0]}"
            for finding in seen.findings
            if finding.status in ("warning", "broken")
        ],
    )
    if broken:
        raise click.exceptions.Exit(FAILED)
