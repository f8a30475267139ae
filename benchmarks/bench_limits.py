"""Plans and runs inside groups with little memory: ``python -m benchmarks.bench_limits MODEL.gguf``.

In a control group of each limit: the plan that ``localq plan`` makes of a shape, with the vocabulary of
MODEL, and a worker that runs a file of that plan; then both once more, when the group holds the file's pages
as page cache. Both times the decision must be the same, and nothing may be killed. It takes the right to make
memory groups: root's, or a delegated one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.settings import parse_size
from benchmarks.bench_plans import models, run, write_hole
from quant.allocation.fit import Fit, plan_fit
from quant.allocation.forecast import forecast
from quant.allocation.joint import Model
from runtime.gguf import open_model
from runtime.hardware import this_machine
from runtime.units import format_bytes

LIMITED: Final = (("2G", "qwen3-4b"), ("4G", "llama-8b"), ("8G", "llama-8b"))
V1: Final = Path("/sys/fs/cgroup/memory")
V2: Final = Path("/sys/fs/cgroup")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(plan_and_run(given.model)))
        return
    print("| limit | shape | page cache | context | KV | bits | forecast | peak | killed |")
    print("|---|---|---|--:|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        shapes = dict(models([given.model], Path(folder)))
        for limit, name in LIMITED:
            planned = shapes[name].header.path
            with memory_group(parse_size(limit)) as group:
                for state in ("cold", "warm"):
                    row = in_group(group, planned)
                    print(
                        f"| {limit} | {name} | {state} | {row['context']} | {row['kv']} | {row['bits']:.2f} "
                        f"| {format_bytes(int(row['forecast']))} | {format_bytes(int(row['peak']))} "
                        f"| {kills(group)} |",
                        flush=True,
                    )
            planned.with_suffix(".planned").unlink()


def in_group(group: Path, source: Path) -> dict[str, float]:
    """What :func:`plan_and_run` says of ``source`` inside the group."""
    command = (
        f'echo $$ > "{group}/cgroup.procs" && exec "{sys.executable}" -m benchmarks.bench_limits --child "$0"'
    )
    ran = subprocess.run(["sh", "-c", command, str(source)], stdout=subprocess.PIPE, check=True)
    row: dict[str, float] = json.loads(ran.stdout)
    return row


def plan_and_run(source: Path) -> dict[str, object]:
    """The plan for what this process may take, and the peak of a worker that runs it."""
    model = open_model(source)
    plan = plan_fit(
        Model(model.headers, forecast(model.header.tensors, model.header.alignment)),
        Fit(context=4096),
        this_machine(),
        threads=2,
    )
    planned = source.with_suffix(".planned")
    if not planned.exists():
        write_hole(plan.header, planned)
    return {
        "context": plan.config.context_tokens,
        "kv": plan.config.kv_type,
        "bits": plan.bits_per_weight,
        "forecast": plan.memory.total,
        "peak": run(plan, planned, prompt_tokens=256),
    }


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A control group of either version whose processes may hold ``limit`` bytes, page cache included."""
    first = (V1 / "memory.limit_in_bytes").exists()
    group = (V1 if first else V2) / "localq-bench"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))
        yield group
    finally:
        group.rmdir()


def kills(group: Path) -> int:
    """How many processes of the group the kernel has killed for memory."""
    events = group / "memory.events"
    text = (events if events.exists() else group / "memory.oom_control").read_text()
    return int(dict(line.split() for line in text.splitlines())["oom_kill"])


if __name__ == "__main__":
    main()
