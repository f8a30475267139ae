"""Long storms: hundreds of disconnects, deaths and slow readers, and nothing is left behind."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.app.server_process import ServerProcess, serving
from tests.app.test_server_life import BRIEF, ENDLESS, busy, open_stream, within

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture(scope="module")
def tiny(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server over a model so small that ten thousand answers take minutes."""
    with serving(tmp_path_factory.mktemp("tiny"), str(tiny_path), "--ctx", "512", "--slots", "4") as server:
        yield server


def held(server: ServerProcess) -> tuple[int, int, int]:
    """Descriptors, threads, and bytes of the server's own."""
    process = psutil.Process(server.process.pid)
    return process.num_fds(), process.num_threads(), process.memory_info().rss


def median_token_seconds(server: ServerProcess, tokens: int) -> float:
    """The median time between two tokens of an answer, as its reader sees it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    body = json.dumps(ENDLESS | {"max_tokens": tokens})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    times = [time.perf_counter() for line in connection.getresponse() if line.startswith(b"data: {")]
    connection.close()
    return statistics.median(right - left for left, right in itertools.pairwise(times[5:]))


def test_a_thousand_disconnects_in_every_phase(demo_path: Path, tmp_path: Path) -> None:
    """The only slot is free within 150 ms in decode, within a second in prefill, at p99: so long the next
    request, which is sent at once, waits for it."""
    long = [{"role": "user", "content": "word " * 700}]
    bodies = {
        "decode": ENDLESS,
        "prefill": ENDLESS | {"messages": long, "cache_prompt": False},
        "whole": ENDLESS | {"stream": False},
        "queued": ENDLESS,
    }
    with serving(tmp_path, str(demo_path), "--ctx", "1024", "--slots", "1") as server:
        server.post("/v1/chat/completions", BRIEF)
        before = held(server)
        rng = random.Random(0)
        waits: dict[str, list[float]] = {phase: [] for phase in bodies}
        for number in range(1000):
            phase = rng.choice(list(bodies))
            first = open_stream(server, ENDLESS) if phase == "queued" else None
            connection = open_stream(server, bodies[phase])
            if phase == "decode":
                read_until(connection, b'"content":"')
            else:
                within(10, lambda: busy(server) >= 1)
                time.sleep(rng.random() * 0.2)
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
            connection.close()
            if first is not None:
                within(2, lambda: busy(server) == 1)
                first.close()
            answer = server.post("/v1/chat/completions", BRIEF | {"max_tokens": 1})
            waits[phase].append(answer["timings"]["queue_ms"] / 1000)
        worst = {phase: sorted(times)[int(0.99 * len(times))] for phase, times in waits.items()}
        print({phase: f"{len(waits[phase])} x, p99 {1000 * worst[phase]:.1f} ms" for phase in bodies})
        assert worst["prefill"] <= 1 and max(worst[phase] for phase in bodies if phase != "prefill") <= 0.15
        within(1, lambda: busy(server) == 0)
        after = held(server)
        print(f"descriptors, threads, bytes: {before} -> {after}")
        assert after[0] <= before[0] + 2 and after[1] <= before[1] + 2
        assert after[2] <= before[2] + (16 << 20)
        assert "Traceback" not in server.log.read_text()


def read_until(connection: socket.socket, text: bytes) -> None:
    """Read an answer up to a text."""
    received = b""
    while text not in received:
        try:
            data = connection.recv(4096)
        except TimeoutError:
            raise AssertionError(f"nothing more comes behind {received!r}") from None
        assert data, received
        received += data


def test_readers_of_a_byte_a_second_hurt_only_themselves(demo_path: Path, tmp_path: Path) -> None:
    """Eight of them, and one that reads: its tokens come as with eight that read at once."""
    with serving(tmp_path, str(demo_path), "--ctx", "1024", "--slots", "9") as server:
        quick = [threading.Thread(target=median_token_seconds, args=(server, 150)) for _ in range(8)]
        for thread in quick:
            thread.start()
        usual = median_token_seconds(server, 60)
        for thread in quick:
            thread.join()
        base = held(server)[2]
        slow = [open_stream(server, ENDLESS | {"logprobs": True, "top_logprobs": 20}) for _ in range(8)]
        within(20, lambda: busy(server) == 8)
        hurt = median_token_seconds(server, 60)
        for _ in range(3):
            for connection in slow:
                connection.recv(1)
            time.sleep(1)
        assert hurt <= 1.25 * usual, (hurt, usual)
        assert held(server)[2] - base <= 8 << 20
        for connection in slow:
            connection.close()
        within(3, lambda: busy(server) == 0)


def test_two_hundred_deaths_of_the_worker_under_load(tiny: ServerProcess) -> None:
    """Each is an error for the requests it had; the next request is answered, and nothing leaks."""
    body = {"messages": ENDLESS["messages"], "max_tokens": 40, "ignore_eos": True}
    with ThreadPoolExecutor(8) as pool:  # the server's own pool of threads has all that it may have
        list(pool.map(lambda _number: tiny.post("/v1/chat/completions", body), range(32)))
    before = held(tiny)
    statuses: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            statuses.append(tiny.request("POST", "/v1/chat/completions", body)[0])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    rng = random.Random(1)
    deaths = 0
    while deaths < 200:
        finished = statuses.count(200)  # by this life: one that never finishes any is started ever later
        while statuses.count(200) == finished:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.1)
        for pid in tiny.worker_pids():
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, rng.choice([signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT]))
                    deaths += 1
    over.set()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 503}, set(statuses)
    started = time.monotonic()
    assert tiny.post("/v1/chat/completions", body)["usage"]["completion_tokens"] == 40
    assert time.monotonic() - started < 5
    within(2, lambda: busy(tiny) == 0)
    after = held(tiny)
    assert after[0] <= before[0] + 4 and after[1] <= before[1] + 4, (before, after)
    assert "Traceback" not in tiny.log.read_text()


def test_ten_thousand_requests_leave_the_memory_as_it_was(tiny: ServerProcess) -> None:
    """The slope of the server's and the worker's own memory over the second half is nothing to speak of."""
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", BRIEF),
        ("/v1/completions", {"prompt": "x", "max_tokens": 2, "n": 2, "logprobs": 2}),
        ("/v1/chat/completions", BRIEF | {"response_format": {"type": "json_object"}}),
        ("/v1/embeddings", {"input": ["a", "b"]}),
        ("/v1/responses", {"input": "x", "max_output_tokens": 2, "store": False}),
        ("/v1/messages", {"messages": BRIEF["messages"], "max_tokens": 2}),
        ("/v1/chat/completions", {"messages": []}),
        ("/tokenize", {"content": "some words"}),
    ]
    sizes: list[int] = []
    for number in range(10_000):
        path, body = bodies[number % len(bodies)]
        status, _, answer = tiny.request("POST", path, body)
        assert status == (400 if body.get("messages") == [] else 200), answer
        if number % 500 == 0:
            worker = psutil.Process(tiny.worker_pids()[0]).memory_info().rss
            sizes.append(held(tiny)[2] + worker)
    half = sizes[len(sizes) // 2 :]
    slope = statistics.linear_regression(range(len(half)), half).slope / 500
    print(f"{slope:.0f} bytes a request; {[size >> 20 for size in sizes]} MiB")
    assert slope < 400
