"""``localq connect``: settings for the programs that use the endpoint."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front

PLACEHOLDER = "not-needed"


@click.command("connect")
@click.argument("program", required=False)
@click.option("--url", metavar="URL", help="Address of the endpoint.  [default: the server that runs]")
@click.option("--model", metavar="MODEL", help="Model to name.  [default: one that the server has]")
@options.output_options
@options.pass_front
def command(front: Front, program: str | None, url: str | None, model: str | None) -> None:
    """Print the settings with which PROGRAM uses the endpoint; without one, those of all.

    PROGRAM: shell, python, javascript, curl, anthropic, continue, zed, aider, open-webui or langchain.
    """
    from app.cli.output import Styled
    from app.errors import WrongUse
    from app.server.clients import BY_NAME, CLIENTS, Target

    if program is not None and program not in BY_NAME:
        raise WrongUse(
            f"no settings are known for {program!r}; there are: {', '.join(BY_NAME)}",
            next_command="localq connect",
        )
    found_url, found_model, key = look(front)
    target = Target(url or found_url, model or found_model, key)
    chosen = [BY_NAME[program]] if program else list(CLIENTS)
    blocks: list[str] = []
    for client in chosen:
        settings = client.settings(target).splitlines()
        blocks += [Styled(f"{client.title}  ({client.place})", "bold"), *settings, ""]
    front.out.result(
        {
            "url": target.url,
            "model": target.model,
            "settings": {client.name: client.settings(target) for client in chosen},
        },
        *blocks[:-1],
        quiet=[line for client in chosen for line in client.settings(target).splitlines()],
    )


def look(front: Front) -> tuple[str, str, str]:
    """Address, model and key of the server that runs; of one that would, where none does."""
    from app.cli.serve import DEFAULT_PORT
    from app.errors import ServerUnreachable
    from app.server.keys import KeyFile
    from app.server.local_client import ask
    from app.server.running import running_servers

    store = front.store()
    key = "YOUR-KEY" if KeyFile(store.home).read() else PLACEHOLDER
    url, models = f"http://127.0.0.1:{DEFAULT_PORT}/v1", [manifest.name for manifest in store.list()]
    servers = running_servers(store.home)
    if servers:
        url = f"{servers[0].url}/v1"
        try:
            cards = ask(servers[0], "GET", "/v1/models")["data"]
            models = [card["id"] for card in sorted(cards, key=lambda card: not card["loaded"])] or models
        except ServerUnreachable as error:
            front.out.warn(str(error))
    else:
        front.out.note(
            "no server runs: these are the settings for the usual address; localq serve starts one"
        )
    return url, models[0] if models else "MODEL", key
