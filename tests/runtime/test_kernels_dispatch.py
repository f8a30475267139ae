"""Which instruction set runs, and what is said when the forced one cannot."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from runtime.errors import KernelError
from runtime.kernels import (
    Kernels,
    active_isa,
    available_isas,
    built_isas,
    choose_isa,
    cpu_features,
    known_features,
)

USE_KERNELS = """
import numpy as np
from runtime.errors import KernelError
from runtime.kernels import active_isa, dot_i8, argmax_f32
row = np.arange(-100, 100, dtype=np.int8)
try:
    print(dot_i8(row, row), argmax_f32(row.astype(np.float32)), active_isa())
except KernelError as error:
    print(error)
"""


def run_forced(isa: str | None, code: str = USE_KERNELS) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "LOCALQ_FORCE_ISA"}
    if isa is not None:
        environment["LOCALQ_FORCE_ISA"] = isa
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )


def test_the_reference_is_built_runs_everywhere_and_comes_last() -> None:
    assert built_isas()[-1] == available_isas()[-1] == choose_isa(()) == "scalar"


def test_the_available_ones_are_built_ones_in_the_same_order() -> None:
    assert [isa for isa in built_isas() if isa in available_isas()] == list(available_isas())


def test_without_force_the_best_available_runs() -> None:
    assert run_forced(None).stdout.split()[-1] == available_isas()[0]


def test_an_empty_force_is_no_force() -> None:
    assert run_forced("").stdout.split()[-1] == available_isas()[0]


@pytest.mark.parametrize("isa", available_isas())
def test_the_forced_instruction_set_is_the_one_that_runs(isa: str) -> None:
    ran = run_forced(isa)
    assert ran.stdout.split() == [str(sum(v * v for v in range(-100, 100))), "199", isa], ran.stderr


def test_this_process_obeys_the_environment_it_was_started_with() -> None:
    assert active_isa() == (os.environ.get("LOCALQ_FORCE_ISA") or available_isas()[0])


def test_a_name_that_this_build_lacks_is_told_with_those_it_has() -> None:
    message = run_forced("avx3").stdout.strip()
    assert (
        message == f"LOCALQ_FORCE_ISA=avx3: this build has no such kernels (have: {', '.join(built_isas())})"
    )


def test_a_processor_that_lacks_the_forced_set_is_told_what_is_missing_and_what_runs() -> None:
    best, *others = built_isas()
    with pytest.raises(KernelError) as refused:
        choose_isa((), best)
    message = str(refused.value)
    assert f"LOCALQ_FORCE_ISA={best}: this processor lacks " in message
    assert message.endswith("(can run: scalar)")
    assert "build" not in message
    assert others, "the scalar reference is beside the best"


CHOICES_ON_X86 = [
    ("", "scalar"),
    ("sse4.2 avx", "scalar"),
    ("avx avx2 fma f16c", "avx2"),
    ("avx avx2 fma", "scalar"),
    ("avx avx2 fma f16c avx_vnni", "avx_vnni"),
    ("avx avx2 fma f16c avx512f avx512bw avx512vl avx512dq", "avx2"),  # Skylake-X: no VNNI
    ("avx avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni", "avx512vnni"),
    ("avx avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni avx_vnni", "avx512vnni"),
    ("avx2 fma f16c avx512bw avx512vl avx512_vnni", "avx2"),
    ("neon dotprod i8mm", "scalar"),
]
CHOICES_ON_ARM = [
    ("", "scalar"),
    ("neon", "scalar"),
    ("neon dotprod", "neon_dotprod"),
    ("neon dotprod i8mm", "neon_i8mm"),
    ("avx2", "scalar"),
]
CHOICES = CHOICES_ON_X86 if platform.machine() == "x86_64" else CHOICES_ON_ARM


@pytest.mark.parametrize(("features", "isa"), CHOICES)
def test_the_best_set_whose_features_are_all_there_is_chosen(features: str, isa: str) -> None:
    assert choose_isa(features.split()) == isa


@pytest.mark.parametrize("forced", built_isas())
def test_force_is_obeyed_where_every_feature_is_there(forced: str) -> None:
    assert choose_isa(known_features(), forced) == forced


def test_a_feature_that_does_not_exist_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        choose_isa(["avx1024"])


@pytest.mark.parametrize("isa", available_isas())
def test_the_table_names_and_describes_each_of_its_rows(isa: str) -> None:
    kernels = Kernels(isa)
    assert (kernels.isa, bool(kernels.description)) == (isa, True)


def test_kernels_of_a_set_that_cannot_run_here_are_not_handed_out() -> None:
    with pytest.raises(KernelError, match="this build has no such kernels"):
        Kernels("avx3")


def test_features_are_known_even_when_the_forced_set_cannot_run() -> None:
    code = "from runtime.kernels import cpu_features; print(*sorted(cpu_features()))"
    assert run_forced("avx3", code).stdout.split() == sorted(cpu_features())


def test_a_native_caller_that_ignores_the_error_ends_with_the_reason() -> None:
    code = "from runtime.kernels.library import load; load().localq_dot_i8(None, None, 0)"
    died = run_forced("avx3", code)
    assert died.returncode < 0
    assert "localq kernels: LOCALQ_FORCE_ISA=avx3: this build has no such kernels" in died.stderr
