"""The template process: renders chat templates that nobody vouches for.

Three walls stand around a template, each for what the others let through:

- jinja2's sandbox (``sandbox``) keeps it from Python.
- The operating system's limits keep the process small and alone: address space, processor time a request, no
  new file descriptor (so no file and no socket), no byte into a file, no core dump. Windows has none of
  these, macOS ignores the one on address space.
- The front kills the process when a request takes longer than a second.

Only this process imports jinja2. It ends when its input does, which is also when its front dies; a busy one
whose front is gone ends by its limit on processor time. (A parent-death signal would do no more, and it comes
when the *thread* that started the child ends.)
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import IO

from runtime.engine.templates import wire
from runtime.engine.templates.sandbox import Sandbox, answer, check_jinja

if sys.platform != "win32":
    import resource

IMPORTED_LATE = ("html", "jinja2.constants", "jinja2.debug", "pprint", "textwrap", "unicodedata")
"""What jinja2 and its filters import when they first need it: too late once no file can be opened."""


def address_space_bytes() -> int | None:
    """What the process has mapped now; None where the kernel does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123  pathlib costs an import
            pages = int(statm.read().split()[0])
    except OSError:
        return None
    return pages * resource.getpagesize()


def limits(mapped_bytes: int | None) -> Iterator[tuple[int, int]]:
    """The resources that the process gives up for good, and how much of each it keeps."""
    yield resource.RLIMIT_CORE, 0
    yield resource.RLIMIT_FSIZE, 0
    yield resource.RLIMIT_NOFILE, 3
    if mapped_bytes is not None:
        yield resource.RLIMIT_AS, mapped_bytes + wire.MEMORY_BYTES


def confine(set_limit: Callable[[int, tuple[int, int]], None]) -> None:
    for kind, value in limits(address_space_bytes()):
        allowed = _at_most(kind, value)
        set_limit(kind, (allowed, allowed))


def allow_processor_time() -> None:
    """Move the limit on processor time to ``CPU_SECONDS`` from now; the kernel ends the process there."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + wire.CPU_SECONDS
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (_at_most(resource.RLIMIT_CPU, soft), hard))


def _at_most(kind: int, value: int) -> int:
    """``value``, or the limit that somebody set before if that is tighter: it cannot be raised."""
    hard = resource.getrlimit(kind)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def prepare() -> Sandbox:
    """A sandbox that needs no file any more. Raises RuntimeError for an old jinja2."""
    check_jinja(version("jinja2"))
    for module in IMPORTED_LATE:
        importlib.import_module(module)
    sandbox = Sandbox()
    for warm_up in ("{{ strftime_now('%d %b %Y') }}", "{{ 'é' | tojson }}{{ nothing.at_all }}"):
        answer(sandbox, json.dumps({"source": warm_up, "context": {}, "now": "2000-01-01"}).encode())
    return sandbox


def serve(sandbox: Sandbox, requests: IO[bytes], replies: IO[bytes], before_each: Callable[[], None]) -> None:
    """Answer requests until there are no more."""
    wire.write_frame(replies, wire.READY)
    while (request := wire.read_frame(requests)) is not None:
        before_each()
        wire.write_frame(replies, answer(sandbox, request))


def main() -> int:
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the front's
    try:
        sandbox = prepare()
    except Exception as error:
        wire.write_frame(replies, wire.BROKEN + str(error).encode())
        return 1
    try:
        if sys.platform == "win32":
            serve(sandbox, requests, replies, lambda: None)
        else:
            confine(resource.setrlimit)
            serve(sandbox, requests, replies, allow_processor_time)
    except OSError:
        return 1  # the front is gone
    return 0


if __name__ == "__main__":
    sys.exit(main())
