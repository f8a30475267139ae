"""``localq run`` against ``llama-cli`` on the same file and threads, as a person meets them, in turn:
``python -m benchmarks.bench_run MODEL.gguf... --llama-cli PATH``.

Of localq the whole way is timed: the worker, sampling, what its process sends, the front that makes it safe
and prints it; from the first bytes of an answer on its standard output to the last. llama-cli says itself how
fast it generated, the printing beside it. Both answer the same prompt by the model's template, with sampling
as it comes. The same of localq with llama.cpp's kernels (``LOCALQ_GGML=off``) says what is not the kernels'
doing.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROMPT = "Tell me a long story about a lighthouse, the woman who keeps it, and the winter of the great storm."
CONTEXT_TOKENS = 1024
CHUNK_BYTES = 1 << 16


class EndedEarlyError(Exception):
    """An answer had fewer tokens than asked for."""


def localq(model: Path, threads: int, tokens: int, seed: int, *, environment: dict[str, str]) -> float:
    """Tokens a second from the first output to the last."""
    program = Path(sys.executable).with_name("localq")
    command = [str(program), "run", str(model), PROMPT, "--stats", "--max-tokens", str(tokens)]
    options = ["--threads", str(threads), "--ctx", str(CONTEXT_TOKENS), "--seed", str(seed)]
    with subprocess.Popen(
        [*command, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        times = []
        while os.read(process.stdout.fileno(), CHUNK_BYTES):
            times.append(time.perf_counter())
        said = process.stderr.read().decode()
    answered = re.search(r"answer (\d+) tokens", said)
    if answered is None:
        raise SystemExit(f"localq run did not answer: {said.strip()}")
    if int(answered[1]) < tokens:
        raise EndedEarlyError(said)
    return (tokens - 1) / (times[-1] - times[0])


def llama_cli(model: Path, threads: int, tokens: int, seed: int, *, program: Path) -> float:
    """Tokens a second as it says itself."""
    command = [str(program), "-m", str(model), "-p", PROMPT, "-n", str(tokens), "-t", str(threads)]
    options = ["-c", str(CONTEXT_TOKENS), "--seed", str(seed), "--single-turn", "--simple-io", "--ignore-eos"]
    done = subprocess.run(
        [*command, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        env=os.environ | {"LD_LIBRARY_PATH": str(program.parent)},
    )
    said = re.search(rb"Generation: ([\d.]+) t/s", done.stdout)
    if said is None:
        raise SystemExit("llama-cli did not say how fast it was")
    return float(said[1])


def interleave(sides: tuple[Callable[[int], float], ...], rounds: int) -> list[list[float]]:
    """What each side answers to a seed, round by round, who begins changing; the first round is not counted.

    A round in which one ended early is repeated with another seed.
    """
    found: list[list[float]] = []
    seed = 0
    while len(found) < rounds + 1:
        seed += 1
        order = range(len(sides)) if seed % 2 else reversed(range(len(sides)))
        try:
            speeds = {index: sides[index](seed) for index in order}
        except EndedEarlyError:
            if seed > 3 * (rounds + 1):
                raise
            continue
        found.append([speeds[index] for index in range(len(sides))])
    return found[1:]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("models", type=Path, nargs="+")
    options.add_argument("--llama-cli", type=Path, required=True)
    options.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options.add_argument("--tokens", type=int, default=96)
    options.add_argument("--rounds", type=int, default=7)
    given = options.parse_args()
    print(f"{'':28}{'localq':>9}{'hook off':>10}{'llama-cli':>11}{'ratios':>15}", file=sys.stderr)
    for model in given.models:
        same = (model, given.threads, given.tokens)
        sides = (
            functools.partial(localq, *same, environment={}),
            functools.partial(localq, *same, environment={"LOCALQ_GGML": "off"}),
            functools.partial(llama_cli, *same, program=given.llama_cli),
        )
        rounds = interleave(sides, given.rounds)
        ours, off, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
        to_off, to_theirs = (statistics.median(each[0] / each[i] for each in rounds) for i in (1, 2))
        print(f"{model.stem:28}{ours:9.1f}{off:10.1f}{theirs:11.1f}{to_off:9.2f}{to_theirs:6.2f}", flush=True)


if __name__ == "__main__":
    main()
