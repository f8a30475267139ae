"""Where requests may go and what they may carry; against answers that are made here, without a network."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from email.utils import formatdate

import httpx2
import pytest

from app.errors import HubBusy, HubError, HubMisbehaved, HubUnreachable
from app.hub.retry import next_wait, patiently
from app.hub.session import HubSession, Patience, Transient, failure, retry_after

PUBLIC = "https://huggingface.co"


def session(answer: Callable[[httpx2.Request], httpx2.Response], base: str = PUBLIC) -> HubSession:
    return HubSession(base, Patience(), bounded=True, transport=httpx2.MockTransport(answer))


def redirecting(target: str) -> tuple[HubSession, list[httpx2.Request]]:
    """A Hub that sends to ``target``, and the requests that are made of it and of the target."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        if len(seen) == 1:
            return httpx2.Response(302, headers={"Location": target})
        return httpx2.Response(200, content=b"ok")

    return session(answer), seen


@pytest.mark.parametrize(
    "target",
    [
        "http://huggingface.co/x",
        "http://cdn.example.org/x",
        "https://169.254.169.254/x",
        "https://[fe80::1]/x",
        "https://[::ffff:169.254.169.254]/x",
        "https://127.0.0.1/x",
        "https://127.1/x",
        "https://0x7f000001/x",
        "https://2130706433/x",
        "https://0177.0.0.1/x",
        "https://[::1]/x",
        "https://0.0.0.0/x",
        "https://10.0.0.1/x",
        "https://192.168.1.1/x",
        "https://172.16.0.1/x",
        "https://100.64.0.1/x",
        "https://localhost/x",
        "https://printer.local/x",
        "https://metadata.google.internal/x",
        "file:///etc/passwd",
        "ftp://example.org/x",
        "gopher://example.org/x",
        "javascript:alert(1)",
    ],
)
def test_a_public_hub_may_not_lead_here(target: str) -> None:
    client, seen = redirecting(target)
    with client, pytest.raises(HubMisbehaved):
        client.get(f"{PUBLIC}/x")
    assert len(seen) == 1


@pytest.mark.parametrize(
    "target", ["https://cdn-lfs.huggingface.co/x", "https://cas-bridge.xethub.hf.co/x", "/y"]
)
def test_it_may_lead_to_its_content_network(target: str) -> None:
    client, seen = redirecting(target)
    with client:
        assert client.get(f"{PUBLIC}/x").content == b"ok"
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("https://cdn.example.org/x", False),
        ("https://huggingface.co.example.org/x", False),
        ("https://huggingface.co:8443/x", False),
        ("https://hf.co/x", False),
        ("/y", True),
        ("https://huggingface.co/y", True),
        ("https://HUGGINGFACE.co:443/y", True),
    ],
)
def test_the_token_goes_to_the_hubs_own_origin_only(target: str, told: bool) -> None:
    client, seen = redirecting(target)
    with client:
        client.get(f"{PUBLIC}/x", headers={"Authorization": "Bearer secret"})
    assert ["authorization" in request.headers for request in seen] == [True, told]


def test_a_next_page_elsewhere_gets_no_token() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, content=b"[]")

    with session(answer) as client:
        client.get("https://elsewhere.example.org/api/models", headers={"Authorization": "Bearer secret"})
    assert "authorization" not in seen[0].headers


def test_no_request_asks_for_compression_and_a_compressed_answer_is_refused() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, headers={"Content-Encoding": "gzip"}, content=b"")

    with session(answer) as client, pytest.raises(HubMisbehaved, match="compressed"):
        client.get(f"{PUBLIC}/x", headers={"Accept-Encoding": "gzip"})
    assert seen[0].headers["Accept-Encoding"] == "identity"


def test_a_long_answer_is_refused_before_it_is_read() -> None:
    read = 0

    def pieces() -> object:
        nonlocal read
        for _ in range(1000):
            read += 1 << 20
            yield bytes(1 << 20)

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=pieces())  # type: ignore[arg-type]

    with session(answer) as client, pytest.raises(HubMisbehaved, match="more than 4 MiB"):
        client.get(f"{PUBLIC}/x")
    assert read <= 6 << 20


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), HubUnreachable),
        (httpx2.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), HubUnreachable),
        (httpx2.UnsupportedProtocol("no"), HubMisbehaved),
        (httpx2.ConnectError("refused"), Transient),
        (httpx2.ReadTimeout("slow"), Transient),
        (httpx2.RemoteProtocolError("peer closed"), Transient),
        (httpx2.ProxyError("no proxy"), Transient),
    ],
)
def test_a_failure_of_the_network_is_typed(error: httpx2.HTTPError, kind: type[Exception]) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise error

    with session(answer) as client, pytest.raises(kind):
        client.get(f"{PUBLIC}/x")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("120", 120.0), (" 7 ", 7.0), (None, None), ("", None), ("soon", None), ("-1", None)],
)
def test_retry_after_is_read(text: str | None, seconds: float | None) -> None:
    assert retry_after(text) == seconds


def test_retry_after_may_be_a_date() -> None:
    found = retry_after(formatdate(time.time() + 100, usegmt=True))
    assert found is not None
    assert 95 < found <= 100
    assert retry_after(formatdate(time.time() - 100, usegmt=True)) == 0.0


class Failing:
    """Fails so many times, then works."""

    def __init__(self, times: int, asked: float | None = None) -> None:
        self.times = times
        self.asked = asked
        self.waits: list[float] = []

    def __call__(self) -> str:
        if len(self.waits) < self.times:
            raise Transient(HubBusy("host", 503, self.asked), self.asked)
        return "done"


def test_waits_double_and_are_spread() -> None:
    action = Failing(5)
    assert patiently(action, Patience(first_wait=1, longest_wait=4), sleep=action.waits.append) == "done"
    for wait, expected in zip(action.waits, (1, 2, 4, 4, 4), strict=True):
        assert 0.75 * expected <= wait <= 1.25 * expected


def test_what_the_server_asks_for_is_waited() -> None:
    action = Failing(2, asked=30.0)
    assert patiently(action, Patience(), sleep=action.waits.append) == "done"
    assert all(30.0 <= wait <= 33.0 for wait in action.waits)


def test_a_day_is_not_waited_but_told() -> None:
    action = Failing(1, asked=86400.0)
    with pytest.raises(HubBusy, match="86400 s") as caught:
        patiently(action, Patience(), sleep=action.waits.append)
    assert action.waits == []
    assert caught.value.retry_after_seconds == 86400.0


def test_patience_ends() -> None:
    action = Failing(100)
    with pytest.raises(HubError):
        patiently(action, Patience(attempts=3), sleep=action.waits.append)
    assert len(action.waits) == 2
    assert next_wait(Transient(HubError("x")), 3, Patience(attempts=3)) is None


def test_a_name_without_an_address_is_told_alike_on_all_systems() -> None:
    unknown = httpx2.ConnectError("[Errno -2] Name or service not known")
    unknown.__cause__ = socket.gaierror(-2, "Name or service not known")
    told = failure(unknown, "https://huggingface.co/api")
    assert isinstance(told, Transient)
    assert str(told.error).startswith("huggingface.co: no address is known for this name; check the network")
    refused = failure(httpx2.ConnectError("Connection refused"), "https://huggingface.co/api")
    assert isinstance(refused, Transient) and "Connection refused" in str(refused.error)
