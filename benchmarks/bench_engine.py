"""The engine against llama.cpp's own programs on the same file and threads, interleaved, medians.

    python -m benchmarks.bench_engine MODEL.gguf --llama-bench PATH --llama-server PATH

Alone: decode speed of one request, against ``llama-bench -p 0 -n N``. Together: output tokens a second of
eight requests that arrive at once, against ``llama-server --parallel 8``, which gets them without streaming.
Both programs are built from the llama.cpp that the pinned llama-cpp-python carries.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import socket
import statistics
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.engine.client import Engine
from runtime.engine.config import EngineConfig
from runtime.engine.messages import FinishedEvent, SamplingParams

SLOTS = 8
CONTEXT_TOKENS = 1024
PROMPTS = [list(range(300 + 40 * index, 300 + 40 * index + 24)) for index in range(SLOTS)]
"""Eight prompts of 24 tokens, without a common beginning."""


@dataclass(frozen=True)
class Comparison:
    """Tokens a second, round by round."""

    name: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median of the rounds' ratios: a machine that drifts drifts for both."""
        return statistics.median(a / b for a, b in zip(self.ours, self.theirs, strict=True))

    def row(self) -> str:
        """One line of the table."""
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        return f"| {self.name} | {ours:.1f} | {theirs:.1f} | {100 * self.ratio:.1f} % |"


def interleave(name: str, rounds: int, ours: Callable[[], float], theirs: Callable[[], float]) -> Comparison:
    """Both once without counting, then in turn."""
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return Comparison(name, tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def engine_alone(engine: Engine, count: int, sampling: SamplingParams) -> float:
    """Decode speed of one request, as the worker timed it."""
    _, end = engine.submit(
        [1], sampling=sampling, max_tokens=count, ignore_eos=True, cache_prompt=False
    ).result()
    return end.timings.decode_tokens_per_second(end.usage.output_tokens)


def engine_together(engine: Engine, count: int) -> float:
    """Output tokens a second of eight requests, seen from the front."""
    started = time.perf_counter()
    generations = [
        engine.submit(
            prompt,
            sampling=SamplingParams(seed=index),
            max_tokens=count,
            ignore_eos=True,
            cache_prompt=False,
        )
        for index, prompt in enumerate(PROMPTS)
    ]
    ends: list[FinishedEvent] = [generation.result()[1] for generation in generations]
    return sum(end.usage.output_tokens for end in ends) / (time.perf_counter() - started)


def llama_bench(program: Path, model: Path, threads: int, count: int) -> float:
    """Decode speed of one ``llama-bench`` repetition."""
    command = [str(program), "-m", str(model), "-t", str(threads), "-p", "0", "-n", str(count)]
    done = subprocess.run(
        [*command, "-r", "1", "-o", "json"],
        capture_output=True,
        text=True,
        check=True,
        env=environment(program),
    )
    return float(json.loads(done.stdout)[0]["avg_ts"])


@contextlib.contextmanager
def llama_server(program: Path, model: Path, threads: int) -> Iterator[str]:
    """A running ``llama-server`` with eight slots; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(program), "-m", str(model), "-t", str(threads), "--host", "127.0.0.1", "--port", str(port)]
    options = ["--parallel", str(SLOTS), "-c", str(CONTEXT_TOKENS * SLOTS)]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(program)
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"{address}/health")
                break
            time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


def server_together(address: str, count: int) -> float:
    """Output tokens a second of the same eight requests."""

    def ask(index: int) -> int:
        body = {
            "prompt": PROMPTS[index],
            "n_predict": count,
            "ignore_eos": True,
            "seed": index,
            "cache_prompt": False,
        }
        request = urllib.request.Request(
            f"{address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            return int(json.load(response)["tokens_predicted"])

    with concurrent.futures.ThreadPoolExecutor(SLOTS) as pool:
        started = time.perf_counter()
        total = sum(pool.map(ask, range(SLOTS)))
        return total / (time.perf_counter() - started)


def environment(program: Path) -> dict[str, str]:
    """A program built elsewhere finds the libraries beside it."""
    return os.environ | {"LD_LIBRARY_PATH": str(program.parent)}


def main() -> None:
    """Measure and print a table; with ``--json`` every round."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("model", type=Path)
    options.add_argument("--llama-bench", type=Path)
    options.add_argument("--llama-server", type=Path)
    options.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options.add_argument("--tokens", type=int, default=128)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    config = EngineConfig(
        model_paths=(str(given.model),),
        context_tokens=CONTEXT_TOKENS,
        slots=SLOTS,
        threads=given.threads,
    )
    results = []
    with Engine(config) as engine:
        engine.start()
        if given.llama_bench:
            greedy, default = SamplingParams(temperature=0), SamplingParams(seed=1)

            def theirs() -> float:
                return llama_bench(given.llama_bench, given.model, given.threads, given.tokens)

            for name, sampling in (("alone, greedy", greedy), ("alone, default sampling", default)):

                def ours(sampling: SamplingParams = sampling) -> float:
                    return engine_alone(engine, given.tokens, sampling)

                results.append(interleave(name, given.rounds, ours, theirs))
        if given.llama_server:
            with llama_server(given.llama_server, given.model, given.threads) as address:
                results.append(
                    interleave(
                        "eight together",
                        given.rounds,
                        lambda: engine_together(engine, given.tokens),
                        lambda: server_together(address, given.tokens),
                    )
                )
    if given.json:
        print(json.dumps([{"name": r.name, "ours": r.ours, "theirs": r.theirs} for r in results]))
        return
    print(f"{given.model.name}, {given.threads} threads, {given.tokens} tokens, {given.rounds} rounds\n")
    print("| requests | localq tok/s | llama.cpp tok/s | ratio |\n|---|---|---|---|")
    print("\n".join(result.row() for result in results))


if __name__ == "__main__":
    main()
