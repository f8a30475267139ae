"""Kills a quantization at chosen or random changes of the disk, goes on, and compares the result's bytes.

    python -m tests.quant.quantize_kills KILLS SEED FOLDER [damage] [trust] [lt2 | 3.5]

With ``damage`` a part of the unfinished file is lost between two runs, as by a power failure. With ``trust``
the journal is believed without reading the file again, which must be noticed. With ``lt2`` matrices are
packed; with a number of bits some are, by choice.

Each run is a fork of this process that ends itself with SIGKILL just before, or in the middle of, a write, a
rename or a line of the journal. The runs that follow must end in the bytes of one that was never killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quant.files import work
from quant.files.work import PREFIX
from quant.files.writer import PartFile
from quant.pipeline import quantize
from tests.quant.source_models import write_source
from tests.quant.stand_ins import made_up, request, stand_ins

CALLS = ("pwrite", "write", "fsync", "posix_fallocate", "ftruncate", "link", "unlink", "rmdir")


def kill_at(change: int, torn: bool) -> None:
    """Ends this process at the change of that number; a torn write has written half of its bytes."""
    left = change

    def around(name: str, primitive: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if torn and name in ("pwrite", "write"):
                    half = memoryview(given[1]).cast("B")
                    primitive(given[0], half[: len(half) // 2], *given[2:])
                os.kill(os.getpid(), signal.SIGKILL)
            return primitive(*given, **named)

        return wrapped

    for name in CALLS:
        setattr(os, name, around(name, getattr(os, name)))
    for method in ("replace", "mkdir", "write_bytes"):
        setattr(Path, method, around(method, getattr(Path, method)))


TARGET = "lt2" if "lt2" in sys.argv[4:] else 3.5 if "3.5" in sys.argv[4:] else "q4_k"


def run_once(source: Path, out: Path, change: int, torn: bool, jobs: int) -> int:
    """One run in a fork of its own; its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            if change:
                kill_at(change, torn)
            quantize(request(source, out, TARGET, jobs=jobs), steps=stand_ins())
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            sys.stderr.flush()
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def changes_of(source: Path, out: Path) -> int:
    """How many changes of the disk an undisturbed run makes."""
    pipe_read, pipe_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        count = 0

        def counting(primitive: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*given: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                return primitive(*given, **named)

            return counted

        report = os.write
        for name in CALLS:
            setattr(os, name, counting(getattr(os, name)))
        for method in ("replace", "mkdir", "write_bytes"):
            setattr(Path, method, counting(getattr(Path, method)))
        quantize(request(source, out, TARGET), steps=stand_ins())
        report(pipe_write, str(count).encode())
        os._exit(0)
    os.close(pipe_write)
    os.waitpid(pid, 0)
    return int(os.read(pipe_read, 20))


def lose_bytes(folder: Path, choose: random.Random) -> None:
    """Zeros in a page of the unfinished file, as where it was never brought to the disk."""
    for part in folder.glob(f"{PREFIX}*/{work.PART}/out.gguf"):
        if part.stat().st_nlink > 1:
            continue  # it was published, and brought to the disk before
        with part.open("r+b") as file:
            file.seek(choose.randrange(max(1, part.stat().st_size - 4096)))
            file.write(bytes(4096))


def trust(self: work.Work, part: PartFile, on_bytes: Callable[[int], None]) -> dict[str, work.FinishedTensor]:
    """What the journal says, without a look at the part file."""
    return {line.name: line for line in self._lines()}


def main() -> int:
    kills, seed, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    choose = random.Random(seed)
    if "trust" in sys.argv[4:]:
        work.Work.finished = trust  # type: ignore[method-assign]
    source = write_source(folder / "source.gguf")
    for number in range(3):
        made_up(1, 256, seed=number)  # once, for all forks
    changes = changes_of(source, folder / "out.gguf")
    expected = (folder / "out.gguf").read_bytes()
    (folder / "out.gguf").unlink()
    killed = finished = most_in_a_row = in_a_row = 0
    while killed < kills:
        status = run_once(
            source,
            folder / "out.gguf",
            choose.randint(1, changes),
            choose.random() < 0.5,
            choose.choice((1, 2)),
        )
        if os.WIFSIGNALED(status):
            killed += 1
            in_a_row += 1
            most_in_a_row = max(most_in_a_row, in_a_row)
            if "damage" in sys.argv[4:]:
                lose_bytes(folder, choose)
        elif os.WEXITSTATUS(status):
            return 1
        out = folder / "out.gguf"
        if out.exists():
            # A kill behind the last rename leaves a complete file too.
            if out.read_bytes() != expected:
                sys.stderr.write("the bytes differ\n")
                return 1
            finished += 1
            in_a_row = 0
            out.unlink()
    if run_once(source, folder / "out.gguf", 0, False, 1) or (folder / "out.gguf").read_bytes() != expected:
        return 1
    left = [path.name for path in folder.iterdir() if path.name.startswith(PREFIX)]
    outcome = {
        "kills": killed,
        "finished": finished,
        "changes": changes,
        "most_in_a_row": most_in_a_row,
        "left": left,
    }
    print(json.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
