"""HTTP with a Hub that is not trusted: where a request may go, what it may carry, how long an answer may be.

``httpx2``, which huggingface_hub brings along, does the transport, so proxies (``HTTPS_PROXY``, ``NO_PROXY``)
and certificates (``SSL_CERT_FILE``) count as everywhere. Added here: the token leaves for the Hub's own
origin only; a redirect may not leave HTTP(S), lose TLS, or lead from a public Hub into a private network; no
answer is compressed, so none grows; and what an answer may hold in memory is bounded.
"""

from __future__ import annotations

import email.utils
import ipaddress
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

# Of huggingface_hub, which would add to a request what program called it and look that up on the Hub.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import httpx2

from app.errors import HubBusy, HubError, HubMisbehaved, HubUnreachable

DEFAULT_ENDPOINT = "https://huggingface.co"
MAX_REDIRECTS = 10
MAX_DOCUMENT_BYTES = 4 << 20
"""Of one answer that is read whole: a page of a listing, or what the Hub knows of a repository."""
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
RETRIED = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Patience:
    """How long a slow or failing server is borne."""

    connect_seconds: float = 10.0
    stall_seconds: float = 20.0
    """A connection that gives nothing for so long, or less than ``slowest``, is dropped."""
    slowest: float = 1024.0
    """Bytes a second."""
    attempts: int = 8
    """That may fail in a row without a byte of progress."""
    first_wait: float = 0.5
    """Seconds before the second attempt; doubled for each further one, up to ``longest_wait``."""
    longest_wait: float = 20.0
    longest_asked: float = 60.0
    """Seconds that a server may ask to wait (Retry-After); a longer wait is told to the person instead."""

    def wait_before(self, attempt: int) -> float:
        """Seconds to wait before the ``attempt``-th try (the second is 1)."""
        return min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1))


class Transient(Exception):
    """An attempt failed, and another may not. ``error`` is what to raise when patience has run out."""

    def __init__(self, error: HubError, retry_after_seconds: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_seconds = retry_after_seconds


def endpoint() -> str:
    """``HF_ENDPOINT``, or the public Hub; without a slash at its end."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def host_of(url: str | httpx2.URL) -> str:
    """The host of an address, for messages: an address itself may carry a signature."""
    return urlsplit(str(url)).netloc.rpartition("@")[2] or str(url)[:80]


def origin_of(url: str | httpx2.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: what a token belongs to."""
    parts = urlsplit(str(url))
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default


class HubSession(httpx2.Client):
    """A client for the Hub at ``base``. With ``bounded`` no answer is long."""

    def __init__(
        self,
        base: str,
        patience: Patience,
        *,
        bounded: bool,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._origin = origin_of(base)
        self._patience = patience
        self._bounded = bounded
        timeout = httpx2.Timeout(patience.stall_seconds, connect=patience.connect_seconds, pool=None)
        super().__init__(
            follow_redirects=True,
            max_redirects=MAX_REDIRECTS,
            timeout=timeout,
            transport=transport,
            headers={"Accept-Encoding": "identity"},
            event_hooks={"request": [self._check_request], "response": [self._check_response]},
        )

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Raises :class:`Transient` for what may go away by itself, else a :class:`HubError`."""
        timeout = request.extensions.get("timeout") or {}
        if timeout.get("read") is None:  # huggingface_hub passes None, which would wait for ever
            seconds = self._patience.stall_seconds
            request.extensions["timeout"] = dict.fromkeys(("read", "write"), seconds) | {
                "connect": self._patience.connect_seconds,
                "pool": None,
            }
        try:
            return super().send(request, **options)
        except httpx2.HTTPError as error:
            raise failure(error, request.url) from error

    def _check_request(self, request: httpx2.Request) -> None:
        """Called for each step of a redirection too, with the address that will really be asked."""
        request.headers["Accept-Encoding"] = "identity"
        if origin_of(request.url) != self._origin:
            request.headers.pop("Authorization", None)
            self._check_target(request.url)

    def _check_response(self, response: httpx2.Response) -> None:
        url = response.request.url
        if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
            raise HubMisbehaved(host_of(url), "sent a compressed answer, though it was asked not to")
        if response.status_code in RETRIED:
            wait = retry_after(response.headers.get("Retry-After"))
            raise Transient(HubBusy(host_of(url), response.status_code, wait), wait)
        if self._bounded or response.is_redirect or response.is_error:
            response.stream = _Bounded(response.stream, host_of(url))

    def _check_target(self, url: httpx2.URL) -> None:
        """Whether the Hub may send us there."""
        scheme, hub, _ = self._origin
        if url.scheme not in ("http", "https"):
            raise HubMisbehaved(hub, f"leads to an address of the kind {url.scheme[:20]!r}")
        if scheme == "https" and url.scheme == "http":
            raise HubMisbehaved(hub, f"leads from https to http on {host_of(url)}")
        if _is_disguised(url.host):
            raise HubMisbehaved(hub, f"leads to {host_of(url)}, an address in an unusual form")
        if _is_private(url.host) and not _is_private(hub):
            raise HubMisbehaved(hub, f"leads into a private network, to {host_of(url)}")
        if _is_link_local(url.host) and not _is_link_local(hub):
            raise HubMisbehaved(hub, f"leads to the link-local address {host_of(url)}")


class _Bounded(httpx2.SyncByteStream):
    """The bytes of an answer, but no more than are put up with."""

    def __init__(self, stream: Any, host: str) -> None:
        self._stream = stream
        self._host = host

    def __iter__(self) -> Iterator[bytes]:
        left = MAX_DOCUMENT_BYTES
        for part in self._stream:
            left -= len(part)
            if left < 0:
                raise HubMisbehaved(self._host, f"sent an answer of more than {MAX_DOCUMENT_BYTES >> 20} MiB")
            yield part

    def close(self) -> None:
        self._stream.close()


def failure(error: httpx2.HTTPError | httpx2.StreamError, url: str | httpx2.URL) -> Exception:
    """What a failure of the transport means: :class:`Transient`, or a :class:`HubError` that stays."""
    host = host_of(url)
    if isinstance(error, httpx2.TooManyRedirects):
        return HubMisbehaved(host, f"redirects more than {MAX_REDIRECTS} times")
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.DecodingError):
        return HubMisbehaved(host, f"cannot be spoken with: {error}")
    text = str(error)
    if "location header" in text:
        return HubMisbehaved(host, "redirects to an address that is none")
    if "CERTIFICATE" in text.upper() or "SSL" in text.upper():
        return HubUnreachable(host, f"no secure connection: {text}")
    if _has_no_address(error):
        text = "no address is known for this name"
    elif isinstance(error, httpx2.ConnectTimeout):
        text = "no connection in time"
    elif isinstance(error, httpx2.TimeoutException):
        text = "the connection stalled"
    return Transient(HubUnreachable(host, text or type(error).__name__))


def _has_no_address(error: BaseException) -> bool:
    """Whether it failed when the name was looked up, as without a network; systems word that differently."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, socket.gaierror):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def retry_after(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, as a number or a date; None without a valid one."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
        return max(0.0, date.timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_disguised(host: str) -> bool:
    """A name that ends in a number is an IPv4 address, in a notation that few know (127.1, 0x7f000001)."""
    return _address(host) is None and bool(_NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]))


def _is_link_local(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_link_local


def _is_private(host: str) -> bool:
    """Whether a host certainly is not on the public Internet. Names are not looked up."""
    address = _address(host)
    if address is not None:
        return not address.is_global
    return host.lower() == "localhost" or host.lower().endswith((".localhost", ".local", ".internal"))
