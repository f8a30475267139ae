"""``localq ps``: servers, and the models that they hold."""

from __future__ import annotations

from typing import Any

import click

from app.cli import options
from app.cli.front import Front


@click.command("ps")
@options.output_options
@options.pass_front
def command(front: Front) -> None:
    """Show the servers that run, and the models in their memory."""
    from app.cli.output import Table
    from app.cli.text import format_bytes
    from app.errors import ServerUnreachable
    from app.server.local_client import ask
    from app.server.running import running_servers

    found: list[dict[str, Any]] = []
    for server in running_servers(front.store().home):
        try:
            found.append({"url": f"{server.url}/v1", **ask(server, "GET", "/v1/running")})
        except ServerUnreachable as error:
            front.out.warn(str(error))
    rows = []
    for each in found:
        head = [each["url"], str(each["pid"]), f"{each['running']} + {each['waiting']}"]
        for model in each["models"] or [None]:
            if model is None:
                rows.append([*head, "-", "-", "-", "-"])
                continue
            resident = model["resident_bytes"]
            rows.append(
                [
                    *head,
                    model["id"],
                    f"{model['context_length']} x {model['slots']}",
                    format_bytes(resident) if resident else "-",
                    "pinned" if model["pinned"] else "busy" if model["requests"] else _rest(model),
                ]
            )
    header = ("SERVER", "PID", "RUN + WAIT", "MODEL", "CONTEXT", "MEMORY", "STATE")
    front.out.result(
        found,
        Table(header, rows) if rows else "no server runs; localq serve starts one",
        quiet=[each["url"] for each in found],
    )


def _rest(model: dict[str, Any]) -> str:
    return f"idle {model['idle_seconds']:.0f} s"
