"""Static activation scales that no kernel can use, or of tensors that are not there (G35)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import inf, nan

from tests.hostile import gguf_bytes as g
from tests.hostile.gguf_bytes import Tensor, Value, build, llama_keys, numbers, strings, u32
from tests.hostile.gguf_case import Hostile

Q8_0, Q4_K = 8, 12
NAMES = ["blk.0.attn_q.weight", "blk.0.ffn_down.weight"]
COUNTS = [3, 2]
"""Of 96 columns in Q8_0, and of 512 in Q4_K."""
SCALES = [0.5, 0.25, 0.125, 2.0, 4.0]
PREFIX = "localq.activations."


def scaled_model(**changes: Value | None) -> bytes:
    """A model with static scales of two inputs; ``scales=...`` changes a key."""
    keys: dict[str, Value | None] = {
        "version": u32(1),
        "tensors": strings(NAMES),
        "counts": numbers(g.U32, COUNTS),
        "scales": numbers(g.F32, SCALES),
    }
    keys |= changes
    written = {PREFIX + key: content for key, content in keys.items() if content is not None}
    matrices = (
        Tensor(NAMES[0], (96, 4), Q8_0, nbytes=4 * 3 * 34),
        Tensor(NAMES[1], (512, 2), Q4_K, nbytes=576),
    )
    rest = tuple(tensor for tensor in g.WEIGHTS if tensor.name not in NAMES)
    return build({**llama_keys(), **written}, (*rest, *matrices))


def cases() -> Iterator[Hostile]:
    def case(name: str, rule: str = "bad-activations", **changes: Value | None) -> Hostile:
        return Hostile(f"g35_{name}", rule, partial(scaled_model, **changes))

    def with_scale(scale: float) -> Value:
        return numbers(g.F32, [*SCALES[:2], scale, *SCALES[3:]])

    yield case("version_2", "activations-version", version=u32(2))
    yield case("no_version", "activations-version", version=None)
    yield case("no_names", tensors=None)
    yield case("no_scales", scales=None)
    yield case("names_are_numbers", tensors=numbers(g.U32, [0, 0]))
    yield case("counts_are_floats", counts=numbers(g.F32, [3, 2]))
    yield case("scales_are_doubles", "wrong-type", scales=numbers(g.F64, SCALES))
    yield case("one_scale", scales=g.f32(0.5))
    yield case("one_scale_too_few", scales=numbers(g.F32, SCALES[:-1]))
    yield case("one_count_too_few", counts=numbers(g.U32, [5]))
    yield case("moved_counts", counts=numbers(g.U32, [2, 3]))
    yield case("count_2_31", counts=numbers(g.U32, [3, 1 << 31]))
    yield case("unknown_tensor", tensors=strings([NAMES[0], "blk.9.ffn_down.weight"]))
    yield case("norm", tensors=strings([NAMES[0], "output_norm.weight"]))
    yield case("twice", tensors=strings(NAMES[:1] * 2), counts=numbers(g.U32, [3, 2]))
    yield case("nan", scales=with_scale(nan))
    yield case("infinity", scales=with_scale(inf))
    yield case("zero", scales=with_scale(0.0))
    yield case("minus_zero", scales=with_scale(-0.0))
    yield case("negative", scales=with_scale(-0.125))
    yield case("subnormal", scales=with_scale(1e-40))
    yield case("huge", scales=with_scale(3e38))
    yield case("array_of_2_40", "array-too-long", scales=numbers(g.F32, [], count=1 << 40))
    yield case("array_of_2_20", "truncated", scales=numbers(g.F32, [], count=1 << 20))
    yield case("name_of_64", "string-too-long", tensors=strings([NAMES[0], "a" * 64]))
