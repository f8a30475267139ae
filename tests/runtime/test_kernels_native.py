"""The build itself: warnings as errors, sanitizers, and a build that has fewer instruction sets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.kernels import available_isas
from runtime.kernels.library import FILE_NAME, find

ROOT = Path(__file__).parents[2]
SHAPES, PIECES = 100_000, 20
"""Of every type, in all instruction sets; each piece draws others (`-k "bits and 7"` runs one)."""


def build(directory: Path, *options: str) -> Path:
    """Configures and builds into ``directory``; returns where the binaries are."""
    cmake = shutil.which(
        "cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if cmake is None:
        pytest.fail("these checks need cmake: pip install cmake")
    for command in (
        ["-S", str(ROOT), "-B", str(directory), *options],
        ["--build", str(directory), f"-j{os.cpu_count()}"],
    ):
        ran = subprocess.run([cmake, *command], capture_output=True, text=True, timeout=3000)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    return directory / "runtime" / "kernels"


@pytest.mark.slow
def test_every_kernel_is_clean_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    before = find().stat()
    binaries = build(tmp_path, "-DLOCALQ_SANITIZE=ON", "-DLOCALQ_WERROR=ON")
    ran = subprocess.run([binaries / "kernels_check"], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [line for line in ran.stdout.splitlines() if line.endswith(": ok")] == [
        f"{checked}: ok" for checked in (*available_isas(), "products", "lt")
    ]
    assert find().stat().st_mtime_ns == before.st_mtime_ns, "the checkout's own library was replaced"


@pytest.mark.slow
def test_every_kernel_for_neon_gives_the_reference_s_results_in_an_emulator(tmp_path: Path) -> None:
    compiler, emulator = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64-static")
    if compiler is None or emulator is None:
        pytest.skip("needs Debian's g++-aarch64-linux-gnu and qemu-user-static")
    target = (
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={compiler}",
    )
    binaries = build(tmp_path, *target, "-DLOCALQ_CHECKS=ON", "-DLOCALQ_IN_TREE=OFF")
    command = [emulator, "-L", "/usr/aarch64-linux-gnu", str(binaries / "kernels_check")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [line for line in ran.stdout.splitlines() if line.endswith(": ok")] == [
        f"{checked}: ok" for checked in ("neon_i8mm", "neon_dotprod", "scalar", "products", "lt")
    ]


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checks' program, built for speed."""
    folder = tmp_path_factory.mktemp("checks")
    return build(folder, "-DLOCALQ_CHECKS=ON", "-DLOCALQ_IN_TREE=OFF") / "kernels_check"


@pytest.mark.slow
@pytest.mark.parametrize("piece", range(PIECES))
def test_100_000_random_shapes_of_every_type_have_the_reference_s_bits(checks: Path, piece: int) -> None:
    ran = subprocess.run(
        [checks, str(SHAPES // PIECES), str(piece)], capture_output=True, text=True, timeout=600
    )
    assert (ran.returncode, ran.stdout) == (0, "products: ok\n")


@pytest.mark.slow
def test_a_build_without_the_best_set_says_so_when_it_is_forced(tmp_path: Path) -> None:
    best = available_isas()[0]
    if best == "scalar":
        pytest.fail("this processor has no instruction set but the reference's: nothing to leave out")
    binaries = build(tmp_path, "-DLOCALQ_ISAS=", "-DLOCALQ_IN_TREE=OFF", "-DLOCALQ_WERROR=ON")
    code = "from runtime.kernels import active_isa, built_isas; print(*built_isas()); active_isa()"
    environment = os.environ | {"LOCALQ_KERNELS": str(binaries / FILE_NAME), "LOCALQ_FORCE_ISA": best}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout == "scalar\n"
    assert (
        f"KernelError: LOCALQ_FORCE_ISA={best}: this build has no such kernels (have: scalar)" in ran.stderr
    )
