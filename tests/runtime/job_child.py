"""A job without a model, for the tests of what surrounds one: does what its request says."""

from __future__ import annotations

import os
import signal
import sys
import time

import msgspec

from runtime.engine.child import Report, serve_job
from runtime.errors import DoesNotFit, EngineError, GgufError, InvalidRequest, ModelLoadFailed, TooFewTokens


class Ask(msgspec.Struct, frozen=True, tag=True):
    do: str
    steps: int = 0


class Step(msgspec.Struct, frozen=True, tag=True):
    number: int
    pid: int


class Answer(msgspec.Struct, frozen=True, tag=True):
    text: str


ERRORS = {
    "load": ModelLoadFailed("no such model"),
    "short": TooFewTokens("too short", tokens=3, needed_tokens=512),
    "memory": DoesNotFit("too large", needed_bytes=2**40, available_bytes=2**30),
    "request": InvalidRequest("not so", field="steps"),
    "file": GgufError("model.gguf", "truncated", "ends early"),
    "plain": EngineError("it went wrong"),
}


def work(ask: Ask, report: Report) -> Answer:
    for number in range(ask.steps):
        report(Step(number, os.getpid()))
    match ask.do:
        case "crash":
            print("the last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(7)
        case "bug":
            raise RuntimeError("a bug of ours")
        case "hang":
            time.sleep(600)
        case "disk":
            raise OSError(28, "No space left on device", "somewhere")
        case "noise":
            os.write(int(sys.argv[1]), b"\xff" * 64)
            time.sleep(600)
    if ask.do in ERRORS:
        raise ERRORS[ask.do]
    return Answer(ask.do)


if __name__ == "__main__":
    serve_job(int(sys.argv[1]), Ask, work)
