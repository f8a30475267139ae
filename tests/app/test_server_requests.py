"""Requests that servers have died of, and connections that never become one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import struct
import threading
import time
import zlib
from typing import Any, ClassVar

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.server.limits import Limits
from app.server.protocol import with_limits
from tests.app.raw_http import head, status_of, talk
from tests.app.server_process import ServerProcess

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


class TestRequests:
    """The list of requests that servers have died of."""

    def test_q01_deep_json(self, empty: ServerProcess) -> None:
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            deep = opening * 60_000 + "1" + closing * 60_000
            raw = f'{{"messages": [{{"role": "user", "content": "x"}}], "tools": [{deep}]}}'.encode()
            assert empty.request("POST", "/v1/chat/completions", raw=raw)[0] == 400
            raw = f'{{"messages": [], "chat_template_kwargs": {deep}}}'.encode()
            assert empty.request("POST", "/v1/chat/completions", raw=raw)[0] == 400

    def test_q02_a_long_body_is_refused_before_it_is_read(self, empty: ServerProcess) -> None:
        sent = head(
            empty, "Content-Type: application/json", f"Content-Length: {100 << 20}",
            method="POST", path="/v1/chat/completions",
        )  # fmt: skip
        started = time.monotonic()
        assert status_of(talk(empty, sent)) == 413
        assert time.monotonic() - started < 2

    def test_q03_chunks_without_end_are_cut_off(self, empty: ServerProcess) -> None:
        sent = head(
            empty, "Content-Type: application/json", "Transfer-Encoding: chunked",
            method="POST", path="/v1/chat/completions",
        )  # fmt: skip
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        with socket.create_connection(("127.0.0.1", empty.port), timeout=20) as connection:
            connection.sendall(sent)
            count = 0
            try:
                while count < 1000:
                    connection.sendall(chunk)
                    count += 1
            except OSError:
                pass
            assert count < 400  # 8 MiB are 128 chunks; buffers hold some more

    def test_q04_two_lengths_are_refused(self, empty: ServerProcess) -> None:
        sent = head(
            empty, "Content-Type: application/json", "Content-Length: 5", "Transfer-Encoding: chunked",
            method="POST", path="/v1/chat/completions",
        )  # fmt: skip
        assert status_of(talk(empty, sent + b"0\r\n\r\n")) == 400
        sent = head(empty, "Content-Length: 5", "Content-Length: 6", method="POST", path="/tokenize")
        assert status_of(talk(empty, sent)) == 400

    def test_q05_long_and_many_headers_are_refused(self, empty: ServerProcess) -> None:
        answer = talk(empty, head(empty, "X-Long: " + "a" * (16 << 20)))
        assert answer == b"" or status_of(answer) in (400, 431)
        many = [f"X-{number}: 1" for number in range(10_000)]
        assert status_of(talk(empty, head(empty, *many))) in (400, 431)

    def test_q07_a_million_messages(self, empty: ServerProcess) -> None:
        message = b'{"role":"user"},'
        raw = b'{"messages":[' + message * 400_000 + b'{"role":"user"}]}'
        status, _, body = empty.request("POST", "/v1/chat/completions", raw=raw)
        assert status == 400 and b"messages" in body

    @pytest.mark.parametrize("field", ["n", "best_of", "logprobs", "max_tokens"])
    def test_q08_counts_of_completions_out_of_range(self, empty: ServerProcess, field: str) -> None:
        for value in (2**31, -1, 17 if field in ("n", "best_of") else 2**63, "1"):
            status, _, _ = empty.request("POST", "/v1/completions", {"prompt": "x", field: value})
            assert status == 400, (field, value)

    @pytest.mark.parametrize("prompt", [[], [[]], [[], "x"], ["x", []], [[1], []]])
    def test_a_list_without_tokens_is_refused_by_name(self, empty: ServerProcess, prompt: list[Any]) -> None:
        status, _, body = empty.request("POST", "/v1/completions", {"prompt": prompt})
        assert status == 400 and b'"param":"prompt"' in body, body

    @pytest.mark.parametrize("field", ["n", "max_tokens", "top_logprobs", "seed", "top_k", "temperature"])
    def test_q08_q09_numbers_out_of_range(self, empty: ServerProcess, field: str) -> None:
        for value in (
            "-1e308",
            "1e308",
            "1e999",
            "NaN",
            "Infinity",
            '"1"',
            "[]",
            str(2**63),
            str(-(2**63) - 1),
        ):
            raw = f'{{"messages": [{{"role": "user", "content": "x"}}], "{field}": {value}}}'.encode()
            status, _, _ = empty.request("POST", "/v1/chat/completions", raw=raw)
            assert status in (400, 404), (field, value)

    def test_q10_many_biases(self, empty: ServerProcess) -> None:
        bias = {str(number): 1 for number in range(100_000)}
        status, _, _ = empty.request("POST", "/v1/chat/completions", {**CHAT, "logit_bias": bias})
        assert status == 400

    def test_q11_many_stops(self, empty: ServerProcess) -> None:
        status, _, _ = empty.request("POST", "/v1/chat/completions", {**CHAT, "stop": ["x"] * 100_000})
        assert status == 400

    def test_q13_lone_surrogates(self, empty: ServerProcess) -> None:
        raw = b'{"messages": [{"role": "user", "content": "\\ud800"}]}'
        assert empty.request("POST", "/v1/chat/completions", raw=raw)[0] in (400, 404)
        raw = b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}'
        assert empty.request("POST", "/v1/chat/completions", raw=raw)[0] == 400

    def test_q16_a_picture_that_would_unpack_to_gigabytes_is_not_read(self, empty: ServerProcess) -> None:
        """65535 x 65535 in a kilobyte: no picture is decoded, whoever asks."""
        header = struct.pack(">IIBBBBB", 65535, 65535, 8, 6, 0, 0, 0)
        parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 << 20), 9)), (b"IEND", b"")]
        png = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts
        )
        url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        chat = [{"type": "image_url", "image_url": {"url": url}}]
        block = {"type": "base64", "media_type": "image/png", "data": url.partition(",")[2]}
        for path, body in (
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": chat}]}),
            (
                "/v1/responses",
                {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]},
            ),
            (
                "/v1/messages",
                {
                    "max_tokens": 1,
                    "messages": [{"role": "user", "content": [{"type": "image", "source": block}]}],
                },
            ),
        ):
            started = time.monotonic()
            status, _, _ = empty.request("POST", path, body)
            assert status in (400, 404), path
            assert time.monotonic() - started < 0.5

    def test_q14_many_tools(self, empty: ServerProcess) -> None:
        tools = [{"type": "function", "function": {"name": f"f{number}"}} for number in range(1000)]
        assert empty.request("POST", "/v1/chat/completions", {**CHAT, "tools": tools})[0] == 400

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "FOO"])
    def test_q17_wrong_methods(self, empty: ServerProcess, method: str) -> None:
        body: Any = {} if method in ("PUT", "PATCH", "TRACE", "FOO") else None
        assert empty.request(method, "/v1/chat/completions", body)[0] == 405

    def test_q17_wrong_charsets_and_encodings(self, empty: ServerProcess) -> None:
        kind = {"content-type": "application/json; charset=utf-16"}
        assert empty.request("POST", "/tokenize", raw=b"{}", headers=kind)[0] == 415
        assert empty.request("POST", "/tokenize", raw=b"{}", headers={"content-encoding": "gzip"})[0] == 415
        assert empty.request("POST", "/tokenize", raw=b"\x1f\x8b\x08")[0] == 400

    def test_q18_old_http_and_pipelining(self, empty: ServerProcess) -> None:
        old = f"GET /health HTTP/1.0\r\nHost: 127.0.0.1:{empty.port}\r\n\r\n".encode()
        assert status_of(talk(empty, old)) == 200
        one = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{empty.port}\r\n\r\n".encode()
        last = head(empty)
        answer = talk(empty, one * 1000 + last, timeout=60)
        assert answer.count(b"HTTP/1.1 200") == 1001

    def test_q19_a_websocket_is_not_opened(self, empty: ServerProcess) -> None:
        answer = talk(
            empty,
            head(empty, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", path="/v1/responses"),
            timeout=2,
        )  # fmt: skip
        assert status_of(answer) in (403, 404, 405)

    @pytest.mark.parametrize(
        "name", ["../../etc/passwd", "/etc/passwd", "/dev/zero", "x" * 400, "a\x00b", "..\\x"]
    )
    def test_q20_a_model_is_a_name_and_never_a_path(self, empty: ServerProcess, name: str) -> None:
        status, _, body = empty.request("POST", "/v1/chat/completions", {**CHAT, "model": name})
        assert status in (400, 404) and b"root:" not in body

    @pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff", b"{}x", b"{" * 100])
    def test_a_body_that_is_no_request(self, empty: ServerProcess, raw: bytes) -> None:
        for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/tokenize"):
            assert empty.request("POST", path, raw=raw)[0] in (400, 404), path

    @pytest.mark.parametrize(
        "line", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 9]
    )
    def test_what_is_no_http(self, empty: ServerProcess, line: bytes) -> None:
        answer = talk(empty, line, timeout=15)
        assert answer == b"" or status_of(answer) == 400

    def test_the_server_is_as_it_was(self, empty: ServerProcess) -> None:
        assert empty.process.poll() is None
        assert empty.get("/health")["running"] == 0
        assert "Traceback" not in empty.log.read_text()


@pytest.mark.model
class TestLongPrompts:
    """Q12: a prompt of as many special tokens as a body holds, and others of that length."""

    BODIES: ClassVar[dict[str, tuple[str, dict[str, Any]]]] = {
        "control tokens": ("/v1/completions", {"prompt": "<|im_start|>" * 600_000}),
        "their numbers": ("/v1/completions", {"prompt": [1] * (1 << 20)}),
        "one word": ("/v1/completions", {"prompt": "a" * 8_000_000}),
        "one word for a vector": ("/v1/embeddings", {"input": "a" * 8_000_000}),
        "control tokens in a turn": ("/v1/chat/completions", {"messages": said("<|im_start|>" * 340_000)}),
        "control tokens in many turns": (
            "/v1/chat/completions",
            {"messages": said("<|im_end|>" * 90) * 4096},
        ),
        "words in a turn": ("/v1/messages", {"max_tokens": 1, "messages": said("word " * 800_000)}),
        "a conversation that is too long to be rendered": (
            "/v1/responses",
            {"input": "<|im_start|>" * 600_000},
        ),
    }

    @pytest.mark.parametrize("name", BODIES)
    def test_q12_it_is_refused_and_others_are_answered_meanwhile(
        self, endpoint: ServerProcess, name: str
    ) -> None:
        path, body = self.BODIES[name]
        waits: list[float] = []
        over = threading.Event()

        def others() -> None:
            while not over.is_set():
                started = time.monotonic()
                endpoint.post("/v1/chat/completions", CHAT)
                waits.append(time.monotonic() - started)

        thread = threading.Thread(target=others)
        thread.start()
        started = time.monotonic()
        try:
            status, _, answer = endpoint.request("POST", path, body)
        finally:
            over.set()
            thread.join()
        print(f"{name}: {time.monotonic() - started:.2f} s, others {max(waits):.2f} s")
        assert status == 400, answer
        assert b"maximum context length is 1024 tokens" in answer or b"4194304 are rendered" in answer
        assert max(waits) < 4, waits

    def test_a_long_count_keeps_nobody_waiting(self, endpoint: ServerProcess) -> None:
        counted: list[int] = []

        def count() -> None:
            counted.append(len(endpoint.post("/tokenize", {"content": "ab" * 2_000_000})["tokens"]))

        thread = threading.Thread(target=count)
        thread.start()
        waits = []
        while thread.is_alive():
            started = time.monotonic()
            endpoint.post("/v1/chat/completions", CHAT)
            waits.append(time.monotonic() - started)
        assert counted[0] > 100_000
        assert max(waits) < 4, waits


def test_half_a_request_is_not_waited_for() -> None:
    """Over the protocol alone, with a shorter deadline than the server's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        config = uvicorn.Config(app, http=with_limits(Limits(header_seconds=0.3)), ws="none", lifespan="off")
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),  # type: ignore[call-arg]
            "127.0.0.1",
        )
        port = server.sockets[0].getsockname()[1]
        started = time.monotonic()
        for sent in (b"", b"POST /x HTTP/1.1\r\nHost: ", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            answer = await asyncio.wait_for(reader.read(), 3)
            assert answer.count(b"204") == (1 if b"\r\n\r\n" in sent else 0)
            writer.close()
        assert 0.8 < time.monotonic() - started < 3
        server.close()

    asyncio.run(main())


@pytest.mark.slow
def test_500_half_requests_are_not_waited_for(empty: ServerProcess) -> None:
    """500 connections that send a byte now and then are closed; others are answered meanwhile."""
    slow = [socket.create_connection(("127.0.0.1", empty.port)) for _ in range(500)]
    try:
        for connection in slow:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: ")
        started = time.monotonic()
        assert empty.request("GET", "/health")[0] == 200
        assert time.monotonic() - started < 1
        time.sleep(5)
        for connection in slow:
            connection.sendall(b"1")
        time.sleep(6.5)
        for connection in slow:
            connection.setblocking(False)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1024) == b""
    finally:
        for connection in slow:
            connection.close()
    assert empty.request("GET", "/health")[0] == 200
