"""Build the wheel for Linux on aarch64 on another machine, and try its kernels under emulation.

usage: cross.py FOLDER      writes localq-VERSION-py3-none-manylinux_..._aarch64.whl there
                            needs: g++-aarch64-linux-gnu, qemu-user-static (Debian's names)

The hook is linked against a ggml of that architecture, which is compiled here for that alone: its sonames are
what counts, and on the machine that runs it they are llama-cpp-python's. The kernels' own check then runs
from the very objects that are in the wheel, once on a processor with every set and once on the oldest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kit.sources import llama_source, tools_path
from wheels.build import build

COMPILER = "aarch64-linux-gnu-g++"
QEMU = "qemu-aarch64-static"
SYSROOT = "/usr/aarch64-linux-gnu"
PROCESSORS = {"max": "neon_i8mm", "cortex-a57": "scalar"}
"""qemu's processors, and the best set of kernels that each must be seen to run."""
TOOLCHAIN = [
    *("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"),
    *(f"-DCMAKE_C_COMPILER={COMPILER.replace('g++', 'gcc')}", f"-DCMAKE_CXX_COMPILER={COMPILER}"),
]


def main() -> int:
    """Build and try; answers the exit code."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    if missing := [name for name in (COMPILER, QEMU) if shutil.which(name) is None]:
        print(f"localq: {' and '.join(missing)} is not installed here; on Debian: "
              "apt install g++-aarch64-linux-gnu qemu-user-static", file=sys.stderr)  # fmt: skip
        return 1
    target = Path(sys.argv[1]).absolute()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="localq-aarch64-") as folder:
        work = Path(folder)
        options = [*TOOLCHAIN, f"-DLOCALQ_LLAMA_CPP={llama_cpp(work / 'ggml')}", "-DLOCALQ_CHECKS=ON"]
        wheel = build(work / "wheel", target, "linux-aarch64", options)
        (check,) = (work / "wheel" / "source" / "build").glob("*/runtime/kernels/kernels_check")
        tried = [try_kernels(check, processor, isa) for processor, isa in PROCESSORS.items()]
    print(wheel)
    return 0 if all(tried) else 1


def llama_cpp(work: Path) -> Path:
    """What the hook is linked against: a package `llama_cpp` with ggml's libraries, headers beside it."""
    source, folder = llama_source(work), work / "build"
    options = [*TOOLCHAIN, "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", "-DLLAVA_BUILD=OFF"]
    ggml = ["-DGGML_NATIVE=OFF", "-DGGML_OPENMP=OFF"]
    run(["cmake", "-S", str(source), "-B", str(folder), "-G", "Ninja", *options, *ggml])
    run(["cmake", "--build", str(folder), "--target", "ggml"])
    package = work / "package" / "llama_cpp"
    (package / "lib").mkdir(parents=True)
    for library in folder.rglob("libggml*.so*"):
        shutil.copy(library, package / "lib" / library.name)
    shutil.copytree(source / "vendor" / "llama.cpp" / "ggml" / "include", package.parent / "include")
    return package


def try_kernels(check: Path, processor: str, isa: str) -> bool:
    """Whether the kernels' check passes on qemu's ``processor``, with ``isa`` among the sets that it ran."""
    command = [QEMU, "-L", SYSROOT, "-cpu", processor, str(check)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    passed = done.returncode == 0 and f"{isa}: ok" in done.stdout.splitlines()
    print(f"{processor}: {' '.join(done.stdout.split())}{done.stderr}", file=sys.stderr)
    return passed


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | {"PATH": tools_path()})


if __name__ == "__main__":
    raise SystemExit(main())
