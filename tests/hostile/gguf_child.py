"""What llama.cpp makes of GGUF files, in a process of its own, since a hostile file may end it.

``python -m tests.hostile.gguf_child 1 FILE...`` loads the vocabulary of each (0: the weights, too), and
prints ``loaded`` or ``refused`` for it, after having said which file it tries.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Verdict:
    """``loaded``, ``refused``, or the signal that ended the process on this file."""

    path: Path
    outcome: str
    log: str = ""


def load_in_children(
    paths: Sequence[Path], *, batch: int = 200, vocabulary_only: bool = True
) -> list[Verdict]:
    """A verdict for each file; a crash costs a new process for the files behind it."""
    waiting = list(paths)
    verdicts: list[Verdict] = []
    while waiting:
        files = waiting[:batch]
        child = subprocess.run(
            [sys.executable, "-m", "tests.hostile.gguf_child", str(int(vocabulary_only)), *map(str, files)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        )
        outcomes = [line for line in child.stdout.splitlines() if line in ("loaded", "refused")]
        verdicts += [Verdict(path, outcome) for path, outcome in zip(files, outcomes, strict=False)]
        if len(outcomes) < len(files):
            verdicts.append(
                Verdict(files[len(outcomes)], f"died with {child.returncode}", child.stderr[-2000:])
            )
        del waiting[: min(len(outcomes) + 1, len(files))]
    return verdicts


def main(vocabulary_only: bool, paths: Sequence[str]) -> None:
    import llama_cpp

    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = vocabulary_only
    for path in paths:
        print("try", path, flush=True)
        model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
        if model:
            llama_cpp.llama_model_free(model)
        print("loaded" if model else "refused", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] == "1", sys.argv[2:])
