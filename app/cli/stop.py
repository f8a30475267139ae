"""``localq stop``: end servers, or unload a model."""

from __future__ import annotations

import os
import signal
import time

import click

from app.cli import options
from app.cli.front import Front

PATIENCE_SECONDS = 20.0


@click.command("stop")
@click.argument("model", required=False)
@options.output_options
@options.pass_front
def command(front: Front, model: str | None) -> None:
    """End the servers of this machine, or unload MODEL from them.

    A server ends when the answers under way are over, at the latest after 15 seconds. A model that answers is
    not unloaded.
    """
    from app.errors import ServerUnreachable
    from app.server.running import running_servers

    servers = running_servers(front.store().home)
    if not servers:
        front.out.result([], "no server runs")
        return
    if model is not None:
        _unload(front, servers, model)
        return
    for server in servers:
        os.kill(server.pid, signal.SIGTERM)
    with front.out.progress("waiting for the answers under way"):
        limit = time.monotonic() + PATIENCE_SECONDS
        while any(server.alive for server in servers) and time.monotonic() < limit:
            time.sleep(0.05)
    stubborn = [server for server in servers if server.alive]
    if stubborn:
        raise ServerUnreachable(stubborn[0].url, f"process {stubborn[0].pid} has not ended")
    front.out.result(
        [{"url": server.url, "pid": server.pid} for server in servers],
        *[f"ended {server.url}" for server in servers],
        quiet=[server.url for server in servers],
    )


def _unload(front: Front, servers: list, model: str) -> None:  # type: ignore[type-arg]
    from urllib.parse import quote

    from app.errors import ServerUnreachable, WrongUse
    from app.server.local_client import ask

    unloaded = []
    for server in servers:
        try:
            if ask(server, "POST", f"/v1/models/{quote(model)}/unload")["unloaded"]:
                unloaded.append(server.url)
        except ServerUnreachable as error:
            front.out.warn(str(error))
    if not unloaded:
        raise WrongUse(f"no server holds {model!r} at rest", next_command="localq ps")
    front.out.result(
        {"model": model, "servers": unloaded}, f"unloaded {model} from {', '.join(unloaded)}", quiet=unloaded
    )
