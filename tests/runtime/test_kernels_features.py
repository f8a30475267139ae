"""Our own CPU feature detection against the operating system's."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from runtime.kernels import cpu_features, known_features

X86 = {
    "sse4.2": "sse4_2",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "bmi2": "bmi2",
    "gfni": "gfni",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512vl": "avx512vl",
    "avx512dq": "avx512dq",
    "avx512_vnni": "avx512_vnni",
    "avx512_vbmi": "avx512vbmi",
    "avx512_bf16": "avx512_bf16",
    "amx_int8": "amx_int8",
}
ARM = {"neon": "asimd", "dotprod": "asimddp", "i8mm": "i8mm", "sve": "sve"}


def flags_of_the_operating_system() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(value.split())
    raise AssertionError("/proc/cpuinfo names no flags")


@pytest.mark.parametrize("ours", sorted(X86 | ARM))
def test_a_feature_is_found_exactly_when_the_operating_system_lists_it(ours: str) -> None:
    spellings = X86 if platform.machine() == "x86_64" else ARM
    listed = spellings.get(ours) in flags_of_the_operating_system()
    assert (ours in cpu_features()) == listed


def test_every_known_feature_is_compared_with_the_operating_system() -> None:
    assert known_features() == frozenset(X86 | ARM)
