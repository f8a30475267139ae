"""The endpoint under load, against llama-server on the same file, slots and threads.

    python -m benchmarks.bench_server closed MODEL.gguf --llama-server PATH [--clients 1,2,4,8,16,32]
    python -m benchmarks.bench_server prefix MODEL.gguf --llama-server PATH
    python -m benchmarks.bench_server open MODEL.gguf [--seconds 20] [--rounds 3] [--factors 1,2,5,10]

*closed*: so many clients ask one thing after another; rounds of both servers take turns. *prefix*: requests
behind a system prompt of 1,000 tokens, with and without the cache. *open*: requests arrive as they like
(Poisson), at multiples of what the server can do, while ``/health`` is asked ten times a second; the
multiples take turns, and only answers that end while requests arrive are counted as throughput.

Every request has words of its own, so no two share more than the template. llama.cpp is built from the
sources that the pinned llama-cpp-python carries.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORDS = (
    "river", "stone", "window", "paper", "green", "market", "seven", "morning", "letter", "garden", "bridge",
    "music", "winter", "table", "signal", "copper", "yellow", "island", "doctor", "engine", "mirror",
)  # fmt: skip
OUTPUT_TOKENS = 32
SYSTEM_WORDS = 1000


@dataclass(frozen=True)
class Server:
    """Where a server listens."""

    name: str
    port: int


@dataclass(frozen=True)
class Outcome:
    """One request. ``status`` 0: the connection broke. ``first_token``: seconds from ``started``."""

    status: int
    first_token: float
    started: float
    ended: float
    tokens: int

    @property
    def complete(self) -> bool:
        return self.status == 200 and self.tokens > 0

    @property
    def total(self) -> float:
        return self.ended - self.started


class Reading(asyncio.Protocol):
    """Keeps what comes over one connection until it closes.

    asyncio's streams would cost three times as much, on the cores that the servers compute on.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.first_token = 0.0
        self.closed = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        if not self.first_token and token_count(data):
            self.first_token = time.perf_counter()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(error)


def token_count(data: bytes) -> int:
    """Pieces of an answer that have a text."""
    return data.count(b'"content":"') - data.count(b'"content":""')


async def ask(server: Server, body: dict[str, Any]) -> Outcome:
    """Send one chat request, as a stream, and read it to its end."""
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    started = time.perf_counter()
    try:
        connection = socket.create_connection(("127.0.0.1", server.port))  # waits for nothing on this machine
        connection.sendall(head.encode() + data)
        connection.setblocking(False)
        _, reading = await asyncio.get_running_loop().create_connection(Reading, sock=connection)
        error = await reading.closed
    except OSError:
        return Outcome(0, 0.0, started, time.perf_counter(), 0)
    ended = time.perf_counter()
    answer = b"".join(reading.pieces)
    status = int(answer[9:12] or 0)
    if error or (status == 200 and b"data: [DONE]" not in answer):
        status = 0
    return Outcome(status, max(0.0, reading.first_token - started), started, ended, token_count(answer))


def request(rng: random.Random, words: int = 80, **more: Any) -> dict[str, Any]:
    """A request that no other shares its words with."""
    text = " ".join(rng.choices(WORDS, k=words))
    messages = [*more.pop("head", ()), {"role": "user", "content": text}]
    return {
        "messages": messages,
        "max_tokens": OUTPUT_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        **more,
    }


async def closed_loop(server: Server, clients: int, count: int, seed: int) -> tuple[list[Outcome], float]:
    """``count`` requests by so many clients; the outcomes and how long it took."""
    rng = random.Random(seed)
    waiting = [request(rng) for _ in range(count)]
    outcomes: list[Outcome] = []

    async def client() -> None:
        while waiting:
            outcomes.append(await ask(server, waiting.pop()))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return outcomes, time.perf_counter() - started


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


async def bench_closed(ours: Server, theirs: Server, clients: Sequence[int], count: int, rounds: int) -> None:
    """The table of the closed loop."""
    print(
        "| clients | complete | localq req/s | llama-server req/s | ratio | first token p50, p95 | theirs |"
    )
    print("|---|---|---|---|---|---|---|")
    for server in (ours, theirs):
        await closed_loop(server, 2, 4, 0)
    for width in clients:
        each = max(width, count // rounds)
        results: dict[str, list[tuple[list[Outcome], float]]] = {ours.name: [], theirs.name: []}
        for index in range(rounds):
            for server in (ours, theirs) if index % 2 == 0 else (theirs, ours):
                results[server.name].append(await closed_loop(server, width, each, 1000 * width + index))
        rates = {name: [len(done) / seconds for done, seconds in found] for name, found in results.items()}
        ratio = statistics.median(a / b for a, b in zip(rates[ours.name], rates[theirs.name], strict=True))
        firsts = {
            name: [each.first_token for done, _ in found for each in done] for name, found in results.items()
        }
        done = [each for outcomes, _ in results[ours.name] for each in outcomes]
        shown = [
            f"{1000 * quantile(firsts[name], 0.5):.0f}, {1000 * quantile(firsts[name], 0.95):.0f} ms"
            for name in (ours.name, theirs.name)
        ]
        print(
            f"| {width} | {sum(each.complete for each in done)} of {len(done)} "
            f"| {statistics.median(rates[ours.name]):.2f} | {statistics.median(rates[theirs.name]):.2f} "
            f"| {ratio:.3f} | {shown[0]} | {shown[1]} |",
            flush=True,
        )


async def bench_prefix(ours: Server, theirs: Server, count: int) -> None:
    """First tokens behind a long system prompt that all requests share."""
    rng = random.Random(7)
    head = [{"role": "system", "content": " ".join(rng.choices(WORDS, k=SYSTEM_WORDS))}]
    print("| server | with the cache, p50 | without, p50 | faster |\n|---|---|---|---|")
    for server in (ours, theirs):
        firsts: dict[bool, list[float]] = {True: [], False: []}
        for cached in (True, False):
            for _ in range(count if cached else max(3, count // 10)):
                body = request(rng, 12, head=head, cache_prompt=cached, max_tokens=4)
                firsts[cached].append((await ask(server, body)).first_token)
        with_cache, without = statistics.median(firsts[True]), statistics.median(firsts[False])
        print(
            f"| {server.name} | {1000 * with_cache:.0f} ms | {1000 * without:.0f} ms "
            f"| {without / with_cache:.1f} x |",
            flush=True,
        )


@dataclass
class Arrivals:
    """What came of requests at one multiple of the capacity, over all rounds. ``rates``: answers that ended
    while requests arrived, a second, one figure a round."""

    outcomes: list[Outcome]
    health: list[float]
    rates: list[float]


async def bench_open(
    server: Server, factors: Sequence[float], seconds: float, count: int, rounds: int
) -> None:
    """Requests that do not wait for each other, at multiples of the capacity, which take turns."""
    await closed_loop(server, 4, 8, 0)
    outcomes, took = await closed_loop(server, 32, count, 1)
    capacity = len(outcomes) / took
    print(f"capacity: {capacity:.2f} requests a second, of 32 clients in turn\n")
    found = {factor: Arrivals([], [], []) for factor in factors}
    for index in range(rounds):
        for factor in factors if index % 2 == 0 else reversed(factors):
            rng = random.Random(f"{index} {factor}")
            await arrive(server, capacity * factor, seconds, found[factor], rng)
    peak = max(statistics.median(each.rates) for each in found.values())
    print("| arrivals | sent | complete | shed | broken | req/s | of the peak | shed p99 | /health p99 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for factor, each in found.items():
        complete = sum(outcome.complete for outcome in each.outcomes)
        shed = [outcome.total for outcome in each.outcomes if outcome.status == 429]
        rate = statistics.median(each.rates)
        print(
            f"| {factor:g} x | {len(each.outcomes)} | {complete} | {len(shed)} "
            f"| {len(each.outcomes) - complete - len(shed)} "
            f"| {rate:.2f} ({min(each.rates):.2f} to {max(each.rates):.2f}) | {100 * rate / peak:.0f} % "
            f"| {1000 * quantile(shed, 0.99):.0f} ms | {1000 * quantile(each.health, 0.99):.0f} ms |",
            flush=True,
        )


async def arrive(server: Server, rate: float, seconds: float, found: Arrivals, rng: random.Random) -> None:
    """Send ``rate`` requests a second for so long, and wait for the last answer."""
    tasks: list[asyncio.Task[Outcome]] = []
    started = time.perf_counter()
    probing = asyncio.create_task(probe(server, found.health))
    while time.perf_counter() - started < seconds:
        tasks.append(asyncio.create_task(ask(server, request(rng))))
        await asyncio.sleep(rng.expovariate(rate))
    limit = time.perf_counter()
    outcomes = await asyncio.gather(*tasks)
    probing.cancel()
    found.outcomes += outcomes
    found.rates.append(sum(each.complete and each.ended <= limit for each in outcomes) / (limit - started))


async def probe(server: Server, times: list[float]) -> None:
    """Ask ``/health`` ten times a second."""
    while True:
        started = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n".encode()
        )
        await reader.read()
        writer.close()
        times.append(time.perf_counter() - started)
        await asyncio.sleep(0.1)


@contextlib.contextmanager
def running(command: list[str], name: str) -> Iterator[Server]:
    """A server as a process, from when it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
        try:
            wait_for(process, port)
            yield Server(name, port)
        finally:
            process.terminate()
            process.wait(30)


def wait_for(process: subprocess.Popen[bytes], port: int, seconds: float = 60.0) -> None:
    """Until ``/health`` says that the server answers."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.1)
    sys.exit(f"{process.args!r} does not answer")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", choices=("closed", "prefix", "open"))
    parser.add_argument("model", type=Path)
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--clients", default="1,2,4,8,16,32")
    parser.add_argument("--factors", default="1,2,5,10")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=2048, help="tokens of each slot")
    options = parser.parse_args()
    model, slots, threads = str(options.model), str(options.slots), str(options.threads)
    localq = [str(Path(sys.executable).with_name("localq")), "serve", model, "--quiet"]
    localq += ["--slots", slots, "--threads", threads, "--ctx", str(options.context)]
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(running(localq, "localq"))
        clients = [int(each) for each in options.clients.split(",")]
        work: Callable[[], Coroutine[Any, Any, None]]
        if options.scenario == "open":
            factors = [float(each) for each in options.factors.split(",")]
            asyncio.run(bench_open(ours, factors, options.seconds, options.requests, options.rounds))
            return
        if options.llama_server is None:
            parser.error("give --llama-server")
        llama = [str(options.llama_server), "-m", model, "-np", slots, "-t", threads, "--no-webui"]
        llama += ["-c", str(options.context * options.slots), "-tb", threads]
        theirs = stack.enter_context(running(llama, "llama-server"))
        work = (
            (lambda: bench_closed(ours, theirs, clients, options.requests, options.rounds))
            if options.scenario == "closed"
            else (lambda: bench_prefix(ours, theirs, min(options.requests, 50)))
        )
        asyncio.run(work())


if __name__ == "__main__":
    main()
