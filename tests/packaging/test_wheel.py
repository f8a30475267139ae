"""The wheels in a fresh environment, away from the checkout: what `pip`, `pipx` and `uv` make of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from kit.locked import LOCK, locked

from app.version import VERSION
from runtime.kernels import active_isa
from tests.packaging.conftest import ROOT, built

pytestmark = [pytest.mark.slow, pytest.mark.model]

MEBIBYTE = 1 << 20
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return built(dist, f"localq-{VERSION}-py3-none-*_MACHINE.whl")


@pytest.fixture(scope="module")
def llama(dist: Path) -> Path:
    return built(dist, "llama_cpp_python-*_MACHINE.whl")


@pytest.fixture(scope="module")
def environment(wheel: Path, llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that holds the lock, by its hashes, and the two wheels; returns its Python."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    wanted = folder / "wanted.txt"
    entries = [entry for entry in locked(LOCK.read_text()) if entry.name != "llama-cpp-python"]
    wanted.write_text("".join(f"{entry.text}\n" for entry in entries))
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--require-hashes", "-r", str(wanted)], check=True, cwd=folder)
    subprocess.run([*pip, str(llama), str(wheel)], check=True, cwd=folder)
    return python


def test_it_is_small_and_holds_what_is_imported_and_no_more(wheel: Path) -> None:
    assert wheel.stat().st_size <= 5 * MEBIBYTE
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {
        "app",
        "quant",
        "runtime",
        f"localq-{VERSION}.dist-info",
    }
    libraries = sorted(name for name in names if name.endswith(".so"))
    assert libraries == ["runtime/ggml/liblocalq_ggml.so", "runtime/kernels/liblocalq_kernels.so"]
    assert not any(name.endswith((".cpp", ".h", ".pyc")) for name in names)


def test_it_works_from_another_folder_with_the_best_kernels(environment: Path, tmp_path: Path) -> None:
    check = [str(environment), str(ROOT / "packaging" / "wheels" / "check.py")]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"localq {VERSION}: kernels {active_isa()}, doctor is green\n"


def ask(program: Path, demo: Path, folder: Path) -> str:
    """What the demo model answers to ``program``, which stands alone and has a store of its own."""
    variables = {"LOCALQ_HOME": str(folder / "home"), "LOCALQ_CONFIG": "/dev/null", "PATH": "/usr/bin:/bin"}
    for words in (["import", str(demo), "--name", "demo"], ["run", "demo", QUESTION]):
        done = subprocess.run(
            [program, *words], cwd=folder, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_answers(environment: Path, demo_path: Path, tmp_path: Path) -> None:
    assert "Paris" in ask(environment.parent / "localq", demo_path, tmp_path)


@pytest.mark.skipif(shutil.which("qemu-x86_64-static") is None, reason="needs qemu-user-static")
@pytest.mark.parametrize(
    ("processor", "uses", "kernels"), [("Nehalem", "SSSE3", ""), ("Haswell-v4", "AVX2", "avx2")]
)
def test_it_runs_on_an_old_processor(
    environment: Path, tmp_path: Path, processor: str, uses: str, kernels: str
) -> None:
    command = ["qemu-x86_64-static", "-cpu", processor, str(environment), "-P", "-m", "runtime.engine.probe"]
    # NumPy's BLAS would take a name of this machine's processor from its environment
    variables = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    probe = json.loads(done.stdout)
    assert probe["features"].get(uses) and not probe["features"].get("AVX512")
    assert probe["kernels"] == kernels
    assert kernels or "no kernels for this processor but the reference" in probe["kernels_reason"]


@pytest.mark.parametrize("tool", ["uv", "pipx"])
def test_the_tools_that_install_programs_install_it_and_it_answers(
    wheel: Path, llama: Path, demo_path: Path, tmp_path: Path, tool: str
) -> None:
    found = shutil.which(tool, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"needs {tool}")
    variables = os.environ | {
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
    }
    words = {
        "uv": ["tool", "install", str(wheel), "--find-links", str(llama.parent)],
        "pipx": ["install", str(wheel), f"--pip-args=--find-links {llama.parent}"],
    }[tool]
    done = subprocess.run([found, *words], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    program = tmp_path / "bin" / "localq"
    shown = subprocess.run([program, "doctor", "--json"], capture_output=True, text=True, check=True)
    report = json.loads(shown.stdout)
    assert report["llama"]["portable"] and report["llama"]["kernels"] == active_isa()
    assert "Paris" in ask(program, demo_path, tmp_path)
