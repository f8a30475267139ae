"""localq's kernels inside llama.cpp against llama.cpp's own, on the same files: ``python -m
benchmarks.bench_hook``.

    python -m benchmarks.bench_hook MODEL.gguf... [--threads 2] [--rounds 15]
    python -m benchmarks.bench_hook LT2.gguf --other IQ2_XXS.gguf   (formats of localq's own)
    ... --loads 5                (nothing but loading, and loading with a first prompt, workers begun anew)
    ... --isa avx2 --against LOCALQ_GGML=off PYTHONPATH=DIR   (a llama.cpp that was built for AVX2)

For each model two workers hold it, one with the hook and one without; they take turns, each round a few
tokens long, and the read bandwidth is measured between the rounds. Ratios are medians of the rounds'
ratios: a machine that drifts drifts for both. A turn in which other processes computed is repeated. Loading
is timed from a warm page cache, mapped or read as localq would, until the model has computed a token: once
for each, or ``--loads`` times in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

CONTEXT_TOKENS = 1024
DISTURBED = 0.05
"""Processors' worth of time that others may take in a turn that counts."""
JIFFY = 0.01
"""Seconds; what the system counts processor time in."""
MOST_REPETITIONS = 50
PAUSE = 1.0
"""Seconds to wait for the others."""


class Side:
    """A worker with a loaded model, in a process of its own."""

    def __init__(self, model: Path, threads: int, environment: dict[str, str]) -> None:
        from runtime.engine.process import worker_environment

        command = [sys.executable, "-m", "benchmarks.bench_hook", "--worker", str(threads), str(model)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=worker_environment() | environment,
        )
        self.loaded = self._answer()

    def seconds(self, what: str, tokens: int) -> float:
        """Of one pass over ``tokens`` ("prefill"), or of as many passes of one ("decode"), undisturbed."""
        for _ in range(MOST_REPETITIONS):
            before = _busy_seconds() - self._spent()
            seconds = self.timed(what, tokens)
            others = _busy_seconds() - self._spent() - before
            if others <= DISTURBED * seconds + 2 * JIFFY:
                return seconds
            time.sleep(PAUSE)
        raise SystemExit("other processes compute all the time: measure on an idle machine")

    def first_answer(self, tokens: int) -> float:
        """Seconds of loading, reading a prompt of ``tokens`` and computing one token."""
        loaded: float = self.loaded["load_seconds"]
        return loaded + self.timed("prefill", tokens) + self.timed("decode", 1)

    def _spent(self) -> float:
        """Processor seconds of this worker and of the process that asks it."""
        return sum(
            times.user + times.system
            for times in (psutil.Process(self._process.pid).cpu_times(), psutil.Process().cpu_times())
        )

    def timed(self, what: str, tokens: int) -> float:
        """The same, disturbed or not."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {tokens}\n")
        self._process.stdin.flush()
        return float(self._answer()["seconds"])

    def close(self) -> None:
        """End the worker."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def work(path: str, threads: int) -> None:
    """The worker: loads the model, then does what it reads from its standard input."""
    import contextlib

    from llama_cpp import llama_cpp as native

    from runtime.budget import best_mmap
    from runtime.engine.config import EngineConfig
    from runtime.engine.llama.model import load_model
    from runtime.gguf import open_model
    from runtime.hardware import this_machine

    machine = this_machine()
    mmap = best_mmap(open_model(path).headers, machine.features, machine.packs)
    config = EngineConfig(
        model_paths=(path,), context_tokens=CONTEXT_TOKENS, threads=threads, ubatch_tokens=512, mmap=mmap
    )
    started = time.perf_counter()
    loaded = load_model(config, lambda _: None)
    seconds = time.perf_counter() - started
    peak = 0
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) << 10
    memory = native.llama_get_memory(loaded.context)

    def run(tokens: list[int]) -> None:
        array = (native.llama_token * len(tokens))(*tokens)
        if native.llama_decode(loaded.context, native.llama_batch_get_one(array, len(tokens))):
            raise SystemExit("llama.cpp could not compute")

    def answer(facts: dict[str, object]) -> None:
        print(json.dumps(facts), flush=True)

    answer({"load_seconds": seconds, "peak_bytes": peak, "mapped": mmap})
    for line in sys.stdin:
        what, count = line.split()
        tokens = list(range(100, 100 + int(count)))
        native.llama_memory_clear(memory, True)
        if what == "decode":
            run([1])
        begin = time.perf_counter()
        for piece in [tokens] if what == "prefill" else [[token] for token in tokens]:
            run(piece)
        answer({"seconds": time.perf_counter() - begin})


@dataclass(frozen=True)
class Measured:
    """Tokens a second with and without the hook, round by round."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return statistics.median(a / b for a, b in zip(self.ours, self.theirs, strict=True))

    def text(self) -> str:
        """ours, theirs, ratio."""
        return f"{statistics.median(self.ours):8.1f} {statistics.median(self.theirs):8.1f} {self.ratio:7.2f}"


def measure(sides: tuple[Side, Side], what: str, tokens: int, rounds: int) -> Measured:
    """Both once without counting, then in turn, who begins changing."""
    speeds: tuple[list[float], list[float]] = ([], [])
    for round_number in range(rounds + 1):
        for index in (0, 1) if round_number % 2 else (1, 0):
            speed = tokens / sides[index].seconds(what, tokens)
            if round_number:
                speeds[index].append(speed)
    return Measured(tuple(speeds[0]), tuple(speeds[1]))


def measure_loads(
    model: Path, threads: int, environments: tuple[dict[str, str], dict[str, str]], tokens: int, rounds: int
) -> str:
    """Seconds of loading, then to a first answer to a prompt of ``tokens``: ours and theirs.

    The least are with memory that the system has at hand: a virtual machine may have to ask its host.
    """
    seconds: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for round_number in range(rounds + 1):
        for index in (0, 1) if round_number % 2 else (1, 0):
            side = Side(model, threads, environments[index])
            if round_number:
                seconds[index].append((side.loaded["load_seconds"], side.first_answer(tokens)))
            side.close()

    def text(what: int) -> str:
        ours, theirs = ([each[what] for each in side] for side in seconds)
        median = statistics.median
        return f"{median(ours):.2f} {median(theirs):.2f} s (least {min(ours):.2f} {min(theirs):.2f})"

    return f"load {text(0)}   first answer {text(1)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=16, help="decoded in a round")
    parser.add_argument("--prefill", type=int, default=512, help="tokens; 0 = not measured")
    parser.add_argument("--loads", type=int, default=0, metavar="ROUNDS", help="time loading alone")
    parser.add_argument("--isa", help="force this instruction set on localq's side")
    parser.add_argument(
        "--against",
        nargs="+",
        default=["LOCALQ_GGML=off"],
        metavar="NAME=VALUE",
        help="what is other on the second side; PYTHONPATH=DIR: another llama.cpp",
    )
    parser.add_argument("--other", type=Path, help="the second side's model, where it is another file")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        work(str(given.models[0]), given.worker)
        return
    from runtime.kernels import read_bandwidth

    on = {"LOCALQ_FORCE_ISA": given.isa} if given.isa else {}
    against = dict(name.split("=", 1) for name in given.against)
    if given.loads:
        for model in given.models:
            found = measure_loads(model, given.threads, (on, against), given.prefill, given.loads)
            print(f"{model.stem:28} {found}", flush=True)
        return
    print(f"{'':28}{'decode tok/s':>26}{'':>9}{'prefill tok/s':>26}", file=sys.stderr)
    for model in given.models:
        sides = (
            Side(model, given.threads, on),
            Side(given.other or model, given.threads, against),
        )
        bandwidth = [read_bandwidth(given.threads, seconds=0.4)]
        decode = measure(sides, "decode", given.tokens, given.rounds)
        bandwidth.append(read_bandwidth(given.threads, seconds=0.4))
        prefill = (
            measure(sides, "prefill", given.prefill, max(3, given.rounds // 4)) if given.prefill else None
        )
        size = model.stat().st_size
        ours = statistics.median(decode.ours) * size / 1e9
        print(
            f"{model.stem:28} {decode.text()}   {prefill.text() if prefill else ''}"
            f"   {ours:.1f} GB/s of {bandwidth[0] / 1e9:.1f}-{bandwidth[1] / 1e9:.1f}"
            f"   load {sides[0].loaded['load_seconds']:.2f} {sides[1].loaded['load_seconds']:.2f} s"
            f"   peak {sides[0].loaded['peak_bytes'] >> 20} {sides[1].loaded['peak_bytes'] >> 20} MiB",
            flush=True,
        )
        for side in sides:
            side.close()


if __name__ == "__main__":
    main()
