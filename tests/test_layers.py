"""Imports go one way: app -> quant -> runtime; and llama_cpp is loaded in the worker only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {"runtime": {"runtime"}, "quant": {"quant", "runtime"}, "app": {"app", "quant", "runtime"}}
OURS = set(ALLOWED) | {"tests", "benchmarks"}
NATIVE_ROOMS = ("runtime/engine/llama", "runtime/engine/worker.py", "runtime/engine/probe.py", "runtime/ggml")


def imports(source: str) -> Iterator[str]:
    """Every module that a source imports, at the top or inside a function; also under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


def offences(package: str, source: str) -> list[str]:
    """Modules of ours that ``package`` may not import."""
    roots = ((name, name.split(".")[0]) for name in imports(source))
    return [name for name, root in roots if root in OURS and root not in ALLOWED[package]]


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_go_one_way(package: str) -> None:
    found = {str(path.relative_to(ROOT)): offences(package, path.read_text()) for path in sources(package)}
    assert found, f"{package} has no sources"
    assert {path: names for path, names in found.items() if names} == {}


def test_formats_import_nothing_of_ours_but_the_kernels() -> None:
    for path in sources("quant"):
        if "formats" in path.parts:
            ours = [name for name in imports(path.read_text()) if name.split(".")[0] in OURS]
            assert all(name.startswith(("quant.formats", "runtime.kernels")) for name in ours), path


def test_only_the_worker_side_imports_llama_cpp() -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for package in ALLOWED
        for path in sources(package)
        if any(name.split(".")[0] == "llama_cpp" for name in imports(path.read_text()))
    ]
    assert users
    assert [path for path in users if not path.startswith(NATIVE_ROOMS)] == []


def test_a_wrong_import_would_be_found() -> None:
    assert offences("runtime", "def late():\n    from app.store import Store") == ["app.store"]
    assert offences("quant", "import app.cli.main") == ["app.cli.main"]
    assert offences("app", "import runtime, quant.pipeline, tests.conftest") == ["tests.conftest"]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        (
            "app.cli.main",
            {"numpy", "rich", "llama_cpp", "jinja2", "psutil", "textual", "runtime.engine.client"},
        ),
        ("app.store", {"numpy", "rich", "llama_cpp", "jinja2", "psutil"}),
        ("runtime.engine.client", {"llama_cpp", "numpy", "jinja2"}),
        ("quant.calibration.collect", {"llama_cpp", "jinja2"}),
    ],
)
def test_a_light_module_stays_light(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []
