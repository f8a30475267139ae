"""Build llama-cpp-python so that it runs on any x86-64 processor and fast on a new one.

usage: build.py FOLDER      writes llama_cpp_python-VERSION-py3-none-linux_x86_64.whl there

Upstream's own build is for the processor that compiles it. Here llama.cpp is compiled for the x86-64 of
2003, and the one library that computes, libggml-cpu.so.0, once more for each level of the architecture, into
`glibc-hwcaps/LEVEL` beside it. The C library's loader takes the best that the processor has, by the library's
own name: nothing that uses llama.cpp has to know of it, localq's hook included, which binds to that name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from kit.project import source_date_epoch
from kit.sources import llama_source, pip, tools_path
from kit.zips import add_to_wheel

LIBRARY = "libggml-cpu.so.0"
SETS = ("SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C", "AVX512")
"""ggml's switches for instruction sets, in the order in which the levels need them."""
LEVELS = {"x86-64-v2": SETS[:1], "x86-64-v3": SETS[:6], "x86-64-v4": SETS}
"""Levels of the x86-64 psABI, and what of ggml's they hold. None has VNNI; localq's own kernels have it."""
COMMON = ["-DGGML_NATIVE=OFF", "-DGGML_OPENMP=ON", "-DLLAVA_BUILD=OFF"]


def main() -> int:
    """Build; answers the exit code."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    if sysconfig.get_platform() != "linux-x86_64":
        print(
            "localq: the levels are those of Linux on x86-64; elsewhere pip builds what fits", file=sys.stderr
        )
        return 1
    target = Path(sys.argv[1]).absolute()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="localq-llama-", dir=target) as folder:
        print(build(Path(folder), target))
    return 0


def build(work: Path, target: Path) -> Path:
    """The finished wheel in ``target``; ``work`` is a folder for everything on the way."""
    source = llama_source(work)
    environment = build_environment(work)
    flags = [*COMMON, *switches(())]
    files = {
        f"llama_cpp/lib/glibc-hwcaps/{level}/{LIBRARY}": compile_level(
            source, work / level, sets, environment
        )
        for level, sets in LEVELS.items()
    }
    environment["CMAKE_ARGS"] = " ".join(flags)
    words = ["wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", str(work), str(source)]
    pip(*words, environment=environment)
    (plain,) = work.glob("*.whl")
    wheel = target / plain.name
    # site-packages/lib and /bin are second copies, for those who link against llama.cpp by CMake
    add_to_wheel(plain, wheel, files, drop=("lib/", "bin/"), timestamp=source_date_epoch())
    return wheel


def compile_level(source: Path, folder: Path, sets: tuple[str, ...], environment: dict[str, str]) -> bytes:
    """ggml's library for the processor with the instruction sets ``sets``."""
    options = [
        *("-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON"),
        *(*COMMON, *switches(sets)),
    ]
    configure = ["cmake", "-S", str(source), "-B", str(folder), "-G", "Ninja", *options]
    subprocess.run(configure, check=True, env=environment, stdout=sys.stderr)
    make = ["cmake", "--build", str(folder), "--target", "ggml-cpu"]
    subprocess.run(make, check=True, env=environment, stdout=sys.stderr)
    (library,) = (path for path in folder.rglob(LIBRARY))
    return library.resolve().read_bytes()


def switches(sets: tuple[str, ...]) -> list[str]:
    """ggml's options that turn ``sets`` on and every other set off."""
    return [f"-DGGML_{name}={'ON' if name in sets else 'OFF'}" for name in SETS]


def build_environment(work: Path) -> dict[str, str]:
    """Compilers that leave no path of this machine and no build id of the moment behind."""
    flags = f"-ffile-prefix-map={work}=."
    return os.environ | {
        "CFLAGS": flags,
        "CXXFLAGS": flags,
        "LDFLAGS": "-Wl,--build-id=none -Wl,-s",
        "SOURCE_DATE_EPOCH": str(source_date_epoch()),
        "PATH": tools_path(),
    }


if __name__ == "__main__":
    raise SystemExit(main())
