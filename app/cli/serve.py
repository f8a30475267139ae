"""``localq serve``: the endpoint."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from app.cli import options
from app.cli.front import Front

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.server.catalog import Catalog

DEFAULT_PORT = 11435


@click.command("serve")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    metavar="N",
    help="Port to listen on; 0 = a free one.",
)
@click.option(
    "--slots",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Answers that a model writes at the same time.  [default: 4, or what fits]",
)
@click.option(
    "--ttl",
    type=options.Between(1, 1e9),
    metavar="SECONDS",
    help="Unload a model that rests for so long.  [default: keep it while there is room]",
)
@click.option("--pin", is_flag=True, help="Never unload the models that are named.")
@click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    envvar="LOCALQ_API_KEY",
    metavar="KEY",
    help="A key that requests must bring; several may be given, in the environment separated by spaces.",
)
@click.option(
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keys, one a line.",
)
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Certificate chain, in PEM: serve over TLS.")  # fmt: skip
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Private key of the certificate, in PEM.")  # fmt: skip
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", help="Another name that this server is called by."
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let pages of this origin use the server, such as http://localhost:3000.",
)
@click.option(
    "--queue",
    type=click.IntRange(0, 100_000),
    default=64,
    show_default=True,
    metavar="N",
    help="Requests that may wait; the next one is told to come again.",
)
@click.option(
    "--prefix-cache",
    type=options.Size(),
    metavar="SIZE",
    help="Keep what was computed of long system prompts on the disk, in files of SIZE at most, such as 2G.",
)
@click.option(
    "--install-service",
    is_flag=True,
    help="Write a user service that runs this command, and say how to start it.",
)
@options.engine_options
@options.output_options
@options.pass_front
def command(
    front: Front,
    models: tuple[str, ...],
    host: str,
    port: int,
    slots: int | None,
    ttl: float | None,
    pin: bool,
    api_keys: tuple[str, ...],
    api_key_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    queue: int,
    prefix_cache: int | None,
    install_service: bool,
    context: int | None,
    threads: int | None,
    kv: str | None,
    ram: int | None,
    gpu_layers: int | Literal["auto"],
    force: bool,
) -> None:
    """Serve models over OpenAI's and Anthropic's interfaces.

    MODEL is a stored model, a path to a GGUF file, or 'demo'; the first one is loaded at once, and answers
    requests that name none. Without any, every stored model can be asked for, and is loaded then.

    Only this machine can reach the server. Another --host needs a key (--api-key, or 'localq key new'). Pages
    of other origins are refused. Prompts, answers and keys are not logged.

    Ctrl-C, or SIGTERM, ends the server when the answers under way are over, at the latest after 15 seconds.
    """
    from app.server.admission import Admission
    from app.server.guard import Access
    from app.server.keys import KeyFile, make_ring
    from app.server.limits import Limits
    from app.server.pool import ModelPool, Prefixes
    from app.server.running import announced
    from app.server.serve import ServeOptions, Tls, listen, serve

    settings = front.settings(context=context, threads=threads, kv=kv, ram=ram)
    store = front.store(settings)
    given = read_keys(api_keys, api_key_file)
    stored = KeyFile(store.home).read()
    check_reach(front, host, bool(given or stored))
    check_tls(tls_cert, tls_key)
    if install_service:
        from app.cli.service import install

        install(front)
        return
    catalog = catalog_of(front, settings, models, pin)
    listener = listen(host, port)
    port = listener.getsockname()[1]
    scheme = "https" if tls_cert else "http"
    address = f"[{host}]" if ":" in host else host
    url = f"{scheme}://{'127.0.0.1' if host in ('0.0.0.0', '::') else address}:{port}"

    def make_pool(admission: Admission) -> ModelPool:
        return ModelPool(
            catalog,
            settings,
            admission,
            front.open_engine,
            slots=slots,
            gpu_layers=-1 if gpu_layers == "auto" else gpu_layers,
            ttl_seconds=ttl,
            force=force,
            prefixes=Prefixes(store.home / "prefixes", prefix_cache) if prefix_cache else None,
        )

    with (
        announced(store.home, url) as token,
        logging_to(sys.stderr, front.out.quiet),
        contextlib.closing(listener),
    ):
        needed = bool(given or stored)
        ring = make_ring(stored, [*given, token] if needed else ())
        access = Access(port, is_loopback(host), ring, hosts=hosts, origins=origins)
        chosen = ServeOptions(
            listener,
            access,
            make_pool,
            limits=Limits(waiting=queue),
            tls=Tls(tls_cert, tls_key) if tls_cert and tls_key else None,
            preload=[offered.name for offered in catalog.list()[:1]] if models else [],
        )

        def ready(_service: Any) -> None:
            front.out.result(
                {"url": f"{url}/v1", "pid": os.getpid(), "key_needed": needed},
                f"serving {url}/v1" + (" (with a key)" if needed else ""),
                quiet=[f"{url}/v1"],
            )
            sys.stdout.flush()
            front.out.note("localq connect shows the settings for editors and programs; Ctrl-C ends.")

        serve(chosen, ready)


def catalog_of(front: Front, settings: Any, models: tuple[str, ...], pin: bool) -> Catalog:
    """The models that are offered; missing ones are an error now, not at the first request."""
    from app.cli.loading import find
    from app.server.catalog import Catalog, offer

    store = front.store(settings)
    named = []
    for reference in models:
        store, found = find(front, settings, reference)
        name = found.name if found.manifest else found.name.removesuffix(".gguf")
        named.append(offer(found, store, name, pinned=pin))
    return Catalog(store, named)


def read_keys(given: tuple[str, ...], file: Path | None) -> list[str]:
    """The keys of the command line and of a file. Raises WrongUse for one that is too short to be a
    secret."""
    from app.errors import WrongUse

    lines = file.read_text(encoding="utf-8").splitlines() if file else []
    keys = [*given, *(line.strip() for line in lines if line.strip() and not line.startswith("#"))]
    for key in keys:
        if len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key:
            raise WrongUse(
                "a key needs at least 8 ASCII characters and no spaces", next_command="localq key new"
            )
    return keys


def check_reach(front: Front, host: str, has_key: bool) -> None:
    """Raise WrongUse where others could reach a server that asks for no key."""
    from app.errors import WrongUse

    if not is_loopback(host) and not has_key:
        raise WrongUse(
            f"others can reach {host}: make a key first, which requests then have to bring",
            next_command="localq key new && localq serve --host " + host,
        )


def check_tls(certificate: Path | None, key: Path | None) -> None:
    """Raise WrongUse for one of the two files, or for files that are not what they should be."""
    from app.errors import WrongUse

    if (certificate is None) != (key is None):
        raise WrongUse("--tls-cert and --tls-key belong together; give both")
    if certificate is not None and key is not None:
        from app.server.serve import Tls, tls_context

        try:
            tls_context(Tls(certificate, key))
        except (OSError, ValueError) as error:
            raise WrongUse(f"{certificate} and {key} are no certificate with its key: {error}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def logging_to(stream: Any, quiet: bool) -> Iterator[None]:
    """The server's log, on stderr: loads, unloads, trouble; never what was asked or answered."""
    from app.terminal import sanitize

    class Safe(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return sanitize(super().format(record))

    handler = logging.StreamHandler(stream)
    handler.setFormatter(Safe("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("localq")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
    uvicorn_log = logging.getLogger("uvicorn.error")
    uvicorn_log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.removeHandler(handler)
