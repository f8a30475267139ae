"""What must not get through: other names, other origins, other keys, and requests that are none."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.server.app import ENDPOINTS
from app.server.keys import KeyFile, KeyRing, make_ring
from tests.app.raw_http import head, status_of, talk
from tests.app.server_process import ServerProcess, serving

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that wants a key."""
    folder = tmp_path_factory.mktemp("locked")
    with serving(folder, environment={"LOCALQ_API_KEY": "a-secret-key another-key"}) as server:
        yield server


PATHS = sorted({(each.method, each.path.replace("{model:path}", "x").replace("{response_id}", "x"))
                for each in ENDPOINTS})  # fmt: skip


class TestHost:
    @pytest.mark.parametrize(("method", "path"), PATHS)
    def test_another_name_is_refused_on_every_route(
        self, empty: ServerProcess, method: str, path: str
    ) -> None:
        answer = talk(empty, head(empty, f"Host: rebind.evil.example:{empty.port}", method=method, path=path))
        assert status_of(answer) == 403

    @pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "LOCALHOST"])
    def test_our_own_names_are_taken(self, empty: ServerProcess, name: str) -> None:
        assert status_of(talk(empty, head(empty, f"Host: {name}:{empty.port}"))) == 200

    @pytest.mark.parametrize(
        "host",
        [
            "localhost", "localhost:1", "127.0.0.1.evil.example:{port}", "evil.example@127.0.0.1:{port}",
            "localhost.:{port}", "x.localhost:{port}", "192.168.0.1:{port}", ":{port}", "",
            "127.0.0.1:{port}:80", "[::1]", "127.1:{port}",
        ],
    )  # fmt: skip
    def test_what_only_looks_like_them_is_not(self, empty: ServerProcess, host: str) -> None:
        answer = talk(empty, head(empty, "Host: " + host.replace("{port}", str(empty.port))))
        assert status_of(answer) in (400, 403)

    def test_two_hosts_are_one_too_many(self, empty: ServerProcess) -> None:
        ours = f"Host: 127.0.0.1:{empty.port}"
        assert status_of(talk(empty, head(empty, ours, ours))) == 400


class TestOrigin:
    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "file://"])
    def test_a_page_of_another_origin_gets_nothing(self, empty: ServerProcess, origin: str) -> None:
        for method in ("GET", "OPTIONS"):
            status, headers, body = empty.request(method, "/v1/models", headers={"origin": origin})
            assert status == 403 and b"data" not in body
            assert not [name for name in headers if name.startswith("access-control")]

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_what_a_browser_fetches_for_another_site_is_refused(
        self, empty: ServerProcess, site: str
    ) -> None:
        assert empty.request("GET", "/health", headers={"sec-fetch-site": site})[0] == 403

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
    )
    def test_what_a_form_can_send_is_not_read(self, empty: ServerProcess, kind: str) -> None:
        status, _, _ = empty.request(
            "POST", "/v1/chat/completions", raw=json.dumps(CHAT).encode(), headers={"content-type": kind}
        )
        assert status == 415

    def test_an_origin_that_was_allowed_may_read(self, tmp_path: Path) -> None:
        with serving(tmp_path, "--allow-origin", "http://localhost:3000") as server:
            headers = {"origin": "http://localhost:3000"}
            _, answer, _ = server.request("GET", "/v1/models", headers=headers)
            assert answer["access-control-allow-origin"] == "http://localhost:3000"
            assert "access-control-allow-credentials" not in answer
            status, answer, _ = server.request("OPTIONS", "/v1/chat/completions", headers=headers)
            assert status == 204 and "POST" in answer["access-control-allow-methods"]
            assert server.request("GET", "/v1/models", headers={"origin": "http://localhost:3001"})[0] == 403


class TestKeys:
    @pytest.mark.parametrize(("method", "path"), PATHS)
    def test_every_route_but_health_needs_one(self, locked: ServerProcess, method: str, path: str) -> None:
        body: Any = {} if method == "POST" else None
        status, headers, _ = locked.request(method, path, body)
        if path == "/health":
            assert status == 200
        else:
            assert status == 401 and headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize(
        "headers",
        [{"authorization": "Bearer another-key"}, {"x-api-key": "a-secret-key"},
         {"authorization": "bearer a-secret-key"}],
    )  # fmt: skip
    def test_each_of_several_keys_opens(self, locked: ServerProcess, headers: dict[str, str]) -> None:
        assert locked.request("GET", "/v1/models", headers=headers)[0] == 200

    @pytest.mark.parametrize("key", ["a-secret-ke", "a-secret-key2", "A-secret-key", "", "Bearer", "\x00"])
    def test_a_wrong_key_does_not(self, locked: ServerProcess, key: str) -> None:
        headers = {"authorization": f"Bearer {key}"}
        assert locked.request("GET", "/v1/models", headers=headers)[0] in (400, 401)

    def test_another_address_without_a_key_is_not_listened_on(self, tmp_path: Path) -> None:
        with pytest.raises(AssertionError, match="others can reach"), serving(tmp_path, "--host", "0.0.0.0"):
            pass

    def test_a_stored_key_is_a_hash_in_a_folder_of_its_owner(self, tmp_path: Path) -> None:
        file = KeyFile(tmp_path)
        key = file.new("laptop")
        raw = file.path.read_bytes()
        assert key.encode() not in raw and key[3:20].encode() not in raw
        assert file.path.parent.stat().st_mode & 0o077 == 0
        assert make_ring(file.read()).find(key.encode()) == "laptop"
        file.remove("laptop")
        assert not make_ring(file.read())

    def test_comparing_takes_the_same_time_however_much_is_right(self) -> None:
        """Welch's t over many comparisons; the test below shows that it would find a leak."""
        ring = make_ring((), ["k" * 43])
        right, wrong = b"k" * 42 + b"x", b"x" + b"k" * 42
        assert abs(welch(lambda: ring.find(right), lambda: ring.find(wrong))) < 10

    def test_a_leak_would_be_found(self) -> None:
        key = b"k" * 4000

        def compare(given: bytes) -> bool:
            return all(left == right for left, right in zip(key, given, strict=True))

        assert abs(welch(lambda: compare(b"k" * 3999 + b"x"), lambda: compare(b"x" * 4000), 300)) > 10

    def test_an_empty_ring_asks_for_nothing(self) -> None:
        assert not KeyRing()


def welch(left: object, right: object, count: int = 20_000) -> float:
    """The t of two functions' times, taken in turns; the slowest tenth is the machine's, not theirs."""
    times: tuple[list[int], list[int]] = ([], [])
    turn = random.Random(0)
    for _ in range(count):
        pairs = [(left, times[0]), (right, times[1])]
        turn.shuffle(pairs)
        for function, found in pairs:
            started = time.perf_counter_ns()
            function()  # type: ignore[operator]
            found.append(time.perf_counter_ns() - started)
    a, b = (sorted(found)[: count * 9 // 10] for found in times)
    spread = statistics.variance(a) / len(a) + statistics.variance(b) / len(b)
    return float((statistics.mean(a) - statistics.mean(b)) / spread**0.5)
