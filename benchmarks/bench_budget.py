"""The forecast of memory against the worker's real peak: ``python -m benchmarks.bench_budget MODEL...``.

Each MODEL is loaded in several configurations, every slot's context is filled, some tokens are generated, and
the worker's peak (VmHWM) is compared with ``runtime.budget``'s forecast. ``--random DIR`` adds models with
random weights, made once in DIR with the first MODEL's vocabulary (takes some GB of disk).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.random_model import RandomShape, make_random
from runtime.budget import plan_memory
from runtime.engine.client import Engine
from runtime.engine.config import EngineConfig, KvType
from runtime.gguf import open_model
from runtime.hardware import Machine, this_machine

MIB = 1 << 20
ANSWER_TOKENS = 8
ALLOWED_SHARE, ALLOWED_BYTES, ALLOWED_UNDER = 0.05, 64 * MIB, 0.02


@dataclass(frozen=True)
class Setting:
    """What of a configuration is varied."""

    context: int
    slots: int = 1
    kv: KvType = "f16"
    batch: int = 512
    mapped: bool = True


@dataclass(frozen=True)
class Row:
    """One case of the table; sizes are bytes."""

    model: str
    file: int
    setting: Setting
    predicted: int
    measured: int
    parts: dict[str, int]

    @property
    def difference(self) -> float:
        """Share by which the forecast is above the peak."""
        return self.predicted / self.measured - 1

    @property
    def good(self) -> bool:
        """Within 5 % or 64 MiB, and not more than 2 % under."""
        allowed = max(ALLOWED_SHARE * self.measured, ALLOWED_BYTES)
        return self.difference >= -ALLOWED_UNDER and self.predicted - self.measured <= allowed


GIVEN = (
    Setting(512, batch=128),
    Setting(4096),
    Setting(4096, mapped=False),
    Setting(8192, kv="q8_0"),
    Setting(1024, slots=4),
    Setting(2048, slots=2, kv="q4_0", batch=256),
)
RANDOM = (
    ("wide", RandomShape(6, 4096, 14336, 32, 8), "Q4_K_M", (Setting(2048), Setting(1024, 2, mapped=False))),
    ("deep", RandomShape(28, 1024, 3072, 16, 8), "Q8_0", (Setting(4096), Setting(1024, 8, "q8_0"))),
    ("1.1B", RandomShape(16, 2048, 8192, 32, 8), "Q4_0", (Setting(2048, mapped=False), Setting(512, 4))),
    ("mha", RandomShape(12, 1536, 4096, 16, 16), "F16", (Setting(2048), Setting(2048, kv="q4_0"))),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--random", type=Path, metavar="DIR")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    machine = this_machine()
    about = {
        "processor": machine.cores.model,
        "system": f"{platform.system()} {platform.machine()}",
        "memory_bytes": machine.memory.total,
        "features": sorted(machine.features),
        "commit": commit(),
        "threads": given.threads,
    }
    if not given.json:
        print(
            f"{about['processor']}, {machine.memory.total / (1 << 30):.1f} GiB; {about['system']};", end=" "
        )
        print(f"{', '.join(sorted(machine.features))}; commit {about['commit']}; {given.threads} thread(s)\n")
        print("| model | file | context x slots | KV | batch | mapped | forecast | peak | difference | |")
        print("|---|--:|--:|---|--:|---|--:|--:|--:|---|")
    rows = []
    for path, setting in cases(given.models, given.random):
        row = measure(path, setting, machine, given.threads)
        rows.append(row)
        if not given.json:
            print(line(row), flush=True)
    if given.json:
        table = [asdict(row) | {"difference": row.difference, "good": row.good} for row in rows]
        print(json.dumps(about | {"rows": table}, indent=1))
    if not all(row.good for row in rows):
        raise SystemExit(1)


def cases(models: list[Path], folder: Path | None) -> Iterator[tuple[Path, Setting]]:
    """Every model with each of its settings."""
    for model in models:
        for setting in GIVEN:
            yield model, setting
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape, kind, settings in RANDOM:
        path = make_random(models[0], folder / f"random-{name}.{kind}.gguf", shape, kind)
        for setting in settings:
            yield path, setting


def measure(path: Path, setting: Setting, machine: Machine, threads: int) -> Row:
    """Load, fill every slot's context, generate; what was forecast, and what the worker took at its peak."""
    config = EngineConfig(
        model_paths=(str(path),),
        context_tokens=setting.context,
        slots=setting.slots,
        kv_type=setting.kv,
        ubatch_tokens=setting.batch,
        mmap=setting.mapped,
        threads=threads,
    )
    model = open_model(path)
    plan = plan_memory(model, config, machine)
    with Engine(config) as engine:
        vocabulary = engine.info.vocabulary_size
        length = setting.context - ANSWER_TOKENS
        running = [
            engine.submit(
                [(7 * place + slot) % (vocabulary // 2) + 100 for place in range(length)],
                max_tokens=ANSWER_TOKENS,
                ignore_eos=True,
                cache_prompt=False,
            )
            for slot in range(setting.slots)
        ]
        for each in running:
            each.result()
        peak = engine.peak_memory_bytes()
    return Row(path.stem, model.size_bytes, setting, plan.total, peak, dict(plan.breakdown()))


def line(row: Row) -> str:
    """A row of the Markdown table, sizes in MiB."""
    setting = row.setting
    return (
        f"| {row.model} | {row.file / MIB:.0f} | {setting.context} x {setting.slots} | {setting.kv} "
        f"| {setting.batch} | {'yes' if setting.mapped else 'no'} | {row.predicted / MIB:.0f} "
        f"| {row.measured / MIB:.0f} | {(row.predicted - row.measured) / MIB:+.0f} MiB, "
        f"{100 * row.difference:+.1f} % | {'' if row.good else 'OUT OF BOUNDS'} |"
    )


def commit() -> str:
    """The commit that is checked out, with ``+`` when files differ from it."""
    here = Path(__file__).resolve().parent
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    ran = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
