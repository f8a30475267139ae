"""One server's life: sockets, signals, the drain at its end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import uvicorn

from app.errors import AddressUnusable
from app.server.admission import Admission
from app.server.app import build_app
from app.server.guard import Access
from app.server.limits import Limits
from app.server.mailbox import Mailbox
from app.server.metrics import Metrics
from app.server.pool import ModelPool
from app.server.protocol import with_limits
from app.server.service import Service
from runtime.errors import LocalqError

BACKLOG = 2048
log = logging.getLogger("localq.server")


@dataclass(frozen=True)
class Tls:
    """Files of a certificate chain and its key, in PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class ServeOptions:
    """Where a server listens, and what it is given. ``preload``: names of models to load at once."""

    listener: socket.socket
    access: Access
    make_pool: Callable[[Admission], ModelPool]
    limits: Limits = field(default_factory=Limits)
    tls: Tls | None = None
    preload: Sequence[str] = ()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; ``port`` 0 takes a free one. Raises AddressUnusable."""
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(info[0], socket.SOCK_STREAM)
    except OSError as error:
        raise AddressUnusable(host, port, error) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(info[4])
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressUnusable(host, port, error) from None
    listener.setblocking(False)
    return listener


def serve(options: ServeOptions, on_ready: Callable[[Service], None]) -> None:
    """Serve until SIGTERM or SIGINT, and then until the answers under way are over, or 15 s have passed."""
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(options, on_ready))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's where it exists: it leaves more of the cores to the model, a third of what a refusal takes."""
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


async def _serve(options: ServeOptions, on_ready: Callable[[Service], None]) -> None:
    loop = asyncio.get_running_loop()
    admission = Admission(options.limits.waiting)
    pool = options.make_pool(admission)
    service = Service(pool, admission, Metrics(admission, pool), Mailbox(loop), options.limits)
    config = uvicorn.Config(
        build_app(service, options.access),
        http=with_limits(options.limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(options.limits.keep_alive_seconds),
        limit_concurrency=options.limits.connections,
        h11_max_incomplete_event_size=options.limits.header_bytes,
        timeout_graceful_shutdown=1,
        backlog=BACKLOG,
    )
    config.load()
    if options.tls is not None:
        config.ssl = tls_context(options.tls)
        config.is_ssl  # noqa: B018
    server = Server(config, service, on_ready)
    pool.start()
    preloading = loop.create_task(_preload(service, options.preload))
    try:
        await server.serve(sockets=[options.listener])
    finally:
        preloading.cancel()
        await pool.close()


async def _preload(service: Service, names: Sequence[str]) -> None:
    for name in names:
        try:
            async with service.pool.use(name):
                pass
        except LocalqError as error:
            log.error("%s was not loaded: %s", name, error)


class Server(uvicorn.Server):
    """Ends in two steps: new requests are refused while those under way go on; then whatever still runs is
    told.

    A second signal ends at once.
    """

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[Service], None]) -> None:
        super().__init__(config)
        self._service = service
        self._on_ready = on_ready
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Signals are heard from here on: now others may learn of the server."""
        await super().startup(sockets)
        self._on_ready(self._service)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On a signal; may interrupt anything, so it only sets things going."""
        if self._service.draining:
            self.force_exit = self.should_exit = True
            return
        self._service.draining = True
        if sig == signal.SIGINT:
            log.info("ending; Ctrl-C again ends at once")

    async def on_tick(self, counter: int) -> bool:
        """uvicorn calls this ten times a second."""
        if self._service.draining and self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._end())
        return await super().on_tick(counter)

    async def _end(self) -> None:
        service = self._service
        loop = asyncio.get_running_loop()
        deadline = loop.time() + service.limits.drain_seconds
        while service.active and loop.time() < deadline and not self.force_exit:
            await asyncio.sleep(0.05)
        for task in list(service.tasks):
            if task is not None:
                task.cancel()
        while service.active and loop.time() < deadline + 1 and not self.force_exit:
            await asyncio.sleep(0.02)
        self.should_exit = True


def tls_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 and newer. Raises OSError and ssl.SSLError for files that are no certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    return context


def raise_descriptor_limit() -> None:
    """As many connections as the system allows: the usual soft limit of 1024 is less than ours."""
    try:
        import resource
    except ModuleNotFoundError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
