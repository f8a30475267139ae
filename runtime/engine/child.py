"""The child's side of a process that the front started: how it ends, and how it does one job."""

from __future__ import annotations

import os
import queue
import socket
import threading
import traceback
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import msgspec

from runtime.engine.job import Failure
from runtime.engine.wire import Channel, encode
from runtime.errors import LocalqError

Asked = TypeVar("Asked", bound=msgspec.Struct)
Report: TypeAlias = Callable[[msgspec.Struct], None]


def end_with(work: Callable[[], None]) -> None:
    """Run a thread's work; the process ends with it. A worker that is half deaf would be worse than none."""
    try:
        work()
    except OSError:
        pass  # the front is gone
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def serve_job(descriptor: int, request: type[Asked], work: Callable[[Asked, Report], msgspec.Struct]) -> None:
    """Read one request of the type ``request``, answer ``work(request, report)``, and end the process.

    ``report`` sends progress, from any thread. A LocalqError of ``work`` becomes the front's; any other
    exception is a death with a traceback in the log. The process ends with its socket: when the front dies
    or closes it, whatever native code is doing.
    """
    channel: Channel[Asked] = Channel(socket.socket(fileno=descriptor), request)
    inbox: queue.SimpleQueue[Asked] = queue.SimpleQueue()

    def listen() -> None:
        while (messages := channel.receive()) is not None:
            for message in messages:
                inbox.put(message)

    def answer() -> None:
        asked = inbox.get()
        try:
            result = work(asked, lambda message: channel.send(encode([message])))
        except LocalqError as error:
            result = Failure(kind=type(error).__name__, message=str(error), facts=facts_of(error))
        except OSError as error:  # the disk's; when the front is gone the answer cannot be sent either
            result = Failure(kind="EngineError", message=str(error))
        channel.send(encode([result]))

    threading.Thread(target=lambda: end_with(listen), name="listener", daemon=True).start()
    end_with(answer)


def facts_of(error: LocalqError) -> dict[str, int | str]:
    """The numbers and texts that an error carries as attributes; the front has the log itself."""
    facts = {name: value for name, value in vars(error).items() if name != "log" and value is not None}
    return {name: value if type(value) is int else str(value) for name, value in facts.items()}
