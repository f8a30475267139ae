"""Plans for a memory against what workers really take: ``python -m benchmarks.bench_plans MODEL.gguf...``.

For each model, memory, context and type of the KV cache: the plan from the header alone, a file of that plan
(formats and shapes as planned, zeros for weights: a hole on the disk), and the peak of a worker that loads
it, reads a prompt and writes a little. MODELs are real ones in F16; Llama, Qwen, Gemma and expert shapes up
to 8B are added, with the first MODEL's vocabulary.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import gguf
import msgspec
import numpy as np

from quant.allocation.forecast import forecast
from quant.allocation.joint import JointPlan, Model
from quant.allocation.planner import Planner
from quant.files.layout import TensorEntry, inherited_pairs, lay_out
from quant.files.packed_layout import PackedEntry, lay_out_packed
from quant.formats.lt import LT_FORMATS
from quant.formats.lt_input import LtInput, block_of, pack_input
from runtime.engine.client import Engine
from runtime.engine.config import KvType
from runtime.gguf import GgufHeader, GgufModel, open_model
from runtime.hardware import this_machine
from tests.runtime.budget_models import transformer

MIB: Final = 1 << 20
TOKEN_TYPES: Final = "tokenizer.ggml.token_type"
PROMPT_TOKENS, ANSWER_TOKENS = 1024, 8
SHAPES: Final = {
    "llama-1b": partial(transformer, layers=16, embedding=2048, width=8192, heads=32, kv_heads=8, tied=True),
    "llama-8b": partial(transformer, layers=32, embedding=4096, width=14336, heads=32, kv_heads=8),
    "qwen3-4b": partial(
        partial(transformer, "qwen3", layers=36, embedding=2560, width=9728, tied=True),
        heads=32,
        kv_heads=8,
        head=128,
    ),
    "gemma3-1b": partial(
        partial(transformer, "gemma3", layers=26, embedding=1152, width=6912, tied=True, window=512),
        heads=4,
        kv_heads=1,
        head=256,
    ),
    "experts-7b": partial(
        partial(transformer, "qwen3moe", layers=24, embedding=2048, width=768, experts=64, experts_used=8),
        heads=32,
        kv_heads=4,
        head=128,
    ),
}
CACHES: Final[tuple[tuple[int, KvType], ...]] = ((2048, "f16"), (8192, "q8_0"), (4096, "q4_0"))
BITS: Final = (2.6, 3.6, 5.0)
"""The memories: what such bits a weight would take, and all the rest."""


@dataclass(frozen=True)
class Row:
    """One plan and what it took."""

    name: str
    plan: JointPlan
    measured: int

    @property
    def difference(self) -> float:
        """Share by which the forecast is above the peak."""
        return self.plan.memory.total / self.measured - 1

    def line(self) -> str:
        plan = self.plan
        memory, foreseen = plan.memory.available, plan.memory.total
        return (
            f"| {self.name} | {plan.config.context_tokens} | {plan.config.kv_type} "
            f"| {plan.bits_per_weight:.2f} | {memory / MIB:.0f} | {foreseen / MIB:.0f} "
            f"| {self.measured / MIB:.0f} | {100 * self.difference:+.1f} % "
            f"| {100 * (1 - foreseen / memory):.2f} % |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--only", default="", metavar="WORD", help="models whose name has WORD in it")
    given = parser.parse_args()
    print("| model | context | cache | bits | memory | forecast | peak | difference | unused |")
    print("|---|--:|---|--:|--:|--:|--:|--:|--:|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models(given.models, Path(folder)):
            if given.only in name:
                for plan in plans(model):
                    rows.append(Row(name, plan, peak(plan, Path(folder) / "planned.gguf")))
                    print(rows[-1].line(), flush=True)
    errors = sorted(abs(row.difference) for row in rows)
    over = [row for row in rows if row.measured > row.plan.memory.available]
    print(
        f"\n{len(rows)} plans: |error| median {statistics.median(errors):.1%}, "
        f"95 % {errors[min(int(len(errors) * 0.95), len(errors) - 1)]:.1%}; {len(over)} over their memory"
    )


def models(real: list[Path], folder: Path) -> Iterator[tuple[str, GgufModel]]:
    """The real ones, then the shapes."""
    for path in real:
        yield path.stem, open_model(path)
    vocabulary = {
        key: field.contents()
        for key, field in gguf.GGUFReader(real[0]).fields.items()
        if key.startswith("tokenizer.") and key not in ("tokenizer.chat_template", TOKEN_TYPES)
    }
    size = len(vocabulary["tokenizer.ggml.tokens"])
    for name, shape in SHAPES.items():
        source = replace(shape(vocabulary=size, kind="F16"), general=vocabulary)
        yield name, open_model(source.write(folder / f"{name}.gguf"))


def plans(model: GgufModel) -> Iterator[JointPlan]:
    """In each memory, with each context and cache."""
    header = model.header
    whole = Model(model.headers, forecast(header.tensors, header.alignment))
    machine = this_machine()
    planner = Planner(whole, machine, threads=2)
    for context, kind in CACHES:
        least = planner.least(context=context, kv_type=kind)
        others = least.memory.total - least.memory.weights
        weights = sum(tensor.elements for tensor in header.tensors) / 8
        for bits in BITS:
            budget = max(int(others + bits * weights), int(least.memory.total * 1.05))
            if budget < machine.memory.available:
                plan = planner.within(budget).best(context=context, kv_type=kind)
                if plan is not None:
                    yield plan


def peak(plan: JointPlan, path: Path) -> int:
    """What a worker takes that runs a file as planned."""
    write_hole(plan.header, path)
    return run(plan, path)


def run(plan: JointPlan, path: Path, *, prompt_tokens: int = PROMPT_TOKENS) -> int:
    """The peak of a worker that reads a prompt with the file at ``path``, and writes a little."""
    config = msgspec.structs.replace(plan.config, model_paths=(str(path),))
    with Engine(config) as engine:
        half = engine.info.vocabulary_size // 2
        length = min(prompt_tokens, config.context_tokens - ANSWER_TOKENS)
        prompt = [7 * place % half + 100 for place in range(length)]
        engine.submit(prompt, max_tokens=ANSWER_TOKENS, ignore_eos=True, cache_prompt=False).result()
        return engine.peak_memory_bytes()


def write_hole(header: GgufHeader, path: Path) -> None:
    """A file with this header, whose weights are a hole; inputs of packed matrices stay as they are."""
    entries = [TensorEntry(each.name, each.type.id, each.shape, each.nbytes) for each in header.tensors]
    tensors = header.packed.tensors if header.packed else ()
    words = [
        PackedEntry(each.name, LT_FORMATS[each.format], each.shape, str(each.input.offset))
        for each in tensors
    ]
    packed = lay_out_packed(words)
    plain = lay_out(inherited_pairs(header), packed.keys, entries, header.alignment)
    layout = packed.behind(plain)
    with path.open("wb") as file:
        file.write(layout.header)
        file.truncate(layout.size)
        for word, placed in zip(words, packed.tensors, strict=True):
            file.seek(layout.size - packed.nbytes + placed.beside[0].position)
            file.write(pack_input(same_input(word.shape[0])).tobytes())


def same_input(columns: int) -> LtInput:
    """No signs, and the columns as they come."""
    none = np.zeros(columns, np.bool_)
    return LtInput(block_of(columns), none, np.arange(columns, dtype=np.uint16))


if __name__ == "__main__":
    main()
