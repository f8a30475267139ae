"""What happens to answers when clients leave, workers die, too much is asked, and the server ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.server.app import ENDPOINTS
from tests.app.server_process import ServerProcess, serving

pytestmark = pytest.mark.model

ENDLESS: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Count."}],
    "ignore_eos": True,
    "max_tokens": 900,
    "stream": True,
}
BRIEF: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi."}], "max_tokens": 4, "temperature": 0}
LONG_PROMPT = "word " * 900


@pytest.fixture
def narrow(demo_path: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """One slot, and a queue of two."""
    with serving(tmp_path, str(demo_path), "--ctx", "2048", "--slots", "1", "--queue", "2") as server:
        yield server


def open_stream(server: ServerProcess, body: dict[str, Any]) -> socket.socket:
    """A connection on which a request was sent; nothing is read."""
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        + data
    )
    return connection


def within(seconds: float, condition: Callable[[], bool]) -> float:
    """Wait for a condition; how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        time.sleep(0.005)
    return time.monotonic() - started


def busy(server: ServerProcess) -> int:
    return int(server.get("/health")["running"])


class TestDisconnects:
    def test_one_in_the_middle_of_an_answer_frees_its_slot(self, endpoint: ServerProcess) -> None:
        connection = open_stream(endpoint, ENDLESS)
        while b"content" not in connection.recv(4096):
            pass
        assert busy(endpoint) == 1
        connection.close()
        within(1, lambda: busy(endpoint) == 0)
        assert endpoint.post("/v1/chat/completions", BRIEF)["usage"]["completion_tokens"] > 0

    def test_one_without_a_stream_frees_it_too(self, endpoint: ServerProcess) -> None:
        connection = open_stream(endpoint, ENDLESS | {"stream": False})
        within(5, lambda: busy(endpoint) == 1)
        connection.close()
        within(1, lambda: busy(endpoint) == 0)

    def test_one_while_the_prompt_is_read_stops_the_reading(self, endpoint: ServerProcess) -> None:
        body = ENDLESS | {"messages": [{"role": "user", "content": LONG_PROMPT}], "cache_prompt": False}
        connection = open_stream(endpoint, body | {"max_tokens": 8})
        within(5, lambda: busy(endpoint) == 1)
        time.sleep(0.3)
        connection.close()
        within(1.5, lambda: busy(endpoint) == 0)
        started = time.monotonic()
        endpoint.post("/v1/chat/completions", BRIEF)
        assert time.monotonic() - started < 3

    def test_one_that_waits_leaves_the_queue(self, narrow: ServerProcess) -> None:
        running = [open_stream(narrow, ENDLESS) for _ in range(2)]  # one answers, one is with the engine
        within(10, lambda: busy(narrow) == 2)
        waiting = open_stream(narrow, BRIEF)
        within(5, lambda: narrow.get("/health")["waiting"] == 1)
        waiting.close()
        within(1, lambda: narrow.get("/health")["waiting"] == 0)
        for connection in running:
            connection.close()
        within(2, lambda: busy(narrow) == 0)

    def test_embeddings_are_given_up(self, endpoint: ServerProcess) -> None:
        data = json.dumps({"input": [f"text {n} " * 100 for n in range(200)]}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port)
        connection.request("POST", "/v1/embeddings", data, {"content-type": "application/json"})
        within(5, lambda: busy(endpoint) == 1)
        connection.close()
        within(1, lambda: busy(endpoint) == 0)
        started = time.monotonic()
        endpoint.post("/v1/embeddings", {"input": "short"})
        assert time.monotonic() - started < 10

    def test_many_leave_nothing_behind(self, endpoint: ServerProcess) -> None:
        endpoint.post("/v1/chat/completions", BRIEF)
        descriptors = len(list(Path(f"/proc/{endpoint.process.pid}/fd").iterdir()))
        for number in range(40):
            connection = open_stream(endpoint, ENDLESS | {"stream": number % 3 != 0})
            if number % 2:
                time.sleep(0.02 * (number % 5))
            connection.close()
        within(5, lambda: busy(endpoint) == 0)
        assert len(list(Path(f"/proc/{endpoint.process.pid}/fd").iterdir())) <= descriptors + 2
        assert "Traceback" not in endpoint.log.read_text()


class TestOverload:
    def test_the_queue_is_bounded_and_says_when_to_come_again(self, narrow: ServerProcess) -> None:
        connections = [open_stream(narrow, ENDLESS) for _ in range(2)]
        within(10, lambda: busy(narrow) == 2)
        connections += [open_stream(narrow, BRIEF) for _ in range(2)]
        within(5, lambda: narrow.get("/health")["waiting"] == 2)
        started = time.monotonic()
        status, headers, body = narrow.request("POST", "/v1/chat/completions", BRIEF)
        assert status == 429 and time.monotonic() - started < 0.5
        assert 1 <= int(headers["retry-after"]) <= 60
        assert json.loads(body)["error"]["type"] == "rate_limit_error"
        for endpoint in ENDPOINTS:  # refused before the body is looked at, where turns are taken
            if endpoint.method == "POST" and "{" not in endpoint.path:
                status, _, _ = narrow.request("POST", endpoint.path, {"no": "request"})
                assert (status == 429) == endpoint.waits, endpoint.path
        for connection in connections[:2]:
            connection.close()
        for connection in connections[2:]:  # those that waited are answered
            assert b"200 OK" in connection.recv(65536)
            connection.close()

    def test_a_reader_that_takes_nothing_hurts_nobody_else(self, endpoint: ServerProcess) -> None:
        sleepers = [open_stream(endpoint, ENDLESS | {"logprobs": True, "top_logprobs": 20}) for _ in range(2)]
        within(10, lambda: busy(endpoint) == 2)
        answer = endpoint.post("/v1/chat/completions", BRIEF)
        assert answer["usage"]["completion_tokens"] > 0
        for connection in sleepers:
            connection.close()
        within(2, lambda: busy(endpoint) == 0)


class TestDeaths:
    def test_a_worker_that_dies_is_an_error_event_and_the_next_request_is_answered(
        self, narrow: ServerProcess
    ) -> None:
        connection = open_stream(narrow, ENDLESS)
        received = connection.recv(4096)
        while b"content" not in received:
            received += connection.recv(4096)
        (pid,) = narrow.worker_pids()
        os.kill(pid, signal.SIGSEGV)
        with contextlib.suppress(TimeoutError):
            while b"0\r\n\r\n" not in received and (data := connection.recv(65536)):
                received += data
        assert b"SIGSEGV" in received and b'"code":"worker_died"' in received and b"[DONE]" not in received
        connection.close()
        assert narrow.post("/v1/chat/completions", BRIEF)["usage"]["completion_tokens"] > 0
        assert narrow.worker_pids() != [pid]


class TestEnd:
    def test_answers_under_way_are_finished_and_new_ones_refused(
        self, demo_path: Path, tmp_path: Path
    ) -> None:
        with serving(tmp_path, str(demo_path), "--ctx", "1024", "--slots", "2") as server:
            connection = open_stream(server, ENDLESS | {"max_tokens": 120})
            received = connection.recv(4096)
            while b"content" not in received:
                received += connection.recv(4096)
            server.process.send_signal(signal.SIGTERM)
            within(1, lambda: server.get("/health")["status"] == "draining")
            status, _, body = server.request("POST", "/v1/chat/completions", BRIEF)
            assert status == 503 and b"shutting_down" in body
            while data := connection.recv(65536):
                received += data
            connection.close()
            assert received.rstrip().endswith(b"0") and b"data: [DONE]" in received
            assert server.process.wait(10) == 0

    def test_a_second_signal_ends_at_once(self, demo_path: Path, tmp_path: Path) -> None:
        with serving(tmp_path, str(demo_path), "--ctx", "2048", "--slots", "1") as server:
            connection = open_stream(server, ENDLESS)
            within(5, lambda: busy(server) == 1)
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGINT)
            started = time.monotonic()
            server.process.wait(10)
            assert time.monotonic() - started < 2.5
            connection.close()

    @pytest.mark.slow
    def test_what_takes_longer_is_told_and_ended(self, demo_path: Path, tmp_path: Path) -> None:
        with serving(tmp_path, str(demo_path), "--ctx", "8192", "--slots", "1") as server:
            connection = open_stream(server, ENDLESS | {"max_tokens": 8000})
            received = connection.recv(4096)
            server.process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            while data := connection.recv(65536):
                received += data
            connection.close()
            assert 13 < time.monotonic() - started < 18
            assert b"shutting_down" in received
            assert server.process.wait(10) == 0


class TestSilence:
    def test_nothing_that_was_said_or_kept_secret_is_logged(self, demo_path: Path, tmp_path: Path) -> None:
        words = {"prompt": "canaryprompt", "key": "canary-key-123456", "name": "canarytool"}
        with serving(
            tmp_path, str(demo_path), "--ctx", "512", environment={"LOCALQ_API_KEY": words["key"]}
        ) as server:
            body = {"messages": [{"role": "user", "content": words["prompt"]}], "max_tokens": 2}
            headers = {"authorization": f"Bearer {words['key']}"}
            assert server.request("POST", "/v1/chat/completions", body, headers)[0] == 200
            bad = body | {"tools": [{"type": "function", "function": {"name": words["name"] + "!"}}]}
            assert server.request("POST", "/v1/chat/completions", bad, headers)[0] == 400
            assert server.request("POST", "/v1/chat/completions", body, {"x-api-key": "wrong"})[0] == 401
            status, _, metrics = server.request("GET", "/metrics", headers=headers)
            assert status == 200
        seen = server.log.read_text() + metrics.decode()
        seen += "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*.json"))
        assert [word for word in words.values() if word in seen] == []

    def test_metrics_count_requests_and_tokens(self, endpoint: ServerProcess) -> None:
        def value(name: str) -> float:
            _, headers, body = endpoint.request("GET", "/metrics")
            assert headers["content-type"].startswith("text/plain")
            lines = [line for line in body.decode().splitlines() if line.startswith(name)]
            return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

        before = value('localq_tokens_total{kind="output"')
        count = endpoint.post("/v1/chat/completions", BRIEF)["usage"]["completion_tokens"]
        assert value('localq_tokens_total{kind="output"') == before + count
        assert value('localq_requests_total{route="/v1/chat/completions",status="200"') >= 1


def test_two_chats_share_the_model(endpoint: ServerProcess) -> None:
    """Both go on at the same pace: Jain's index of what each gets while both run.

    Both write the same text: a token that writes nothing is no event.
    """
    times: tuple[list[float], list[float]] = ([], [])

    def read(index: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port)
        body = json.dumps(ENDLESS | {"max_tokens": 300, "temperature": 0})
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        for line in connection.getresponse():
            if line.startswith(b"data: {"):
                times[index].append(time.monotonic())
        connection.close()

    threads = [threading.Thread(target=read, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    begin, end = max(each[0] for each in times), min(each[-3] for each in times)  # behind the tokens: its end
    counts = [sum(begin <= at <= end for at in each) for each in times]
    assert min(counts) > 30
    assert sum(counts) ** 2 / (2 * sum(count**2 for count in counts)) >= 0.95
