"""Finding and loading the library, and what is said when that fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import runtime.kernels
from runtime.errors import KernelError
from runtime.kernels.library import ABI_VERSION, FILE_NAME, find, load

HEADER = Path(__file__).parents[2] / "runtime" / "kernels" / "localq_kernels.h"


@pytest.fixture(autouse=True)
def _no_choice_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCALQ_KERNELS", raising=False)


def run_with(library: Path, code: str = "from runtime.kernels.library import load; load()") -> str:
    """Standard output and error of a fresh process that is told to use ``library``."""
    environment = os.environ | {"LOCALQ_KERNELS": str(library)}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    return ran.stdout + ran.stderr


def test_importing_the_package_loads_neither_the_library_nor_numpy() -> None:
    code = """
import sys
import runtime.kernels
print(sorted({"numpy", "ctypes", "runtime.kernels.bindings"} & set(sys.modules)))
assert "localq_kernels" not in open("/proc/self/maps").read()
runtime.kernels.cpu_features()
assert "localq_kernels" in open("/proc/self/maps").read()
assert "numpy" not in sys.modules
"""
    assert run_with(find(), code) == "[]\n"


def test_the_public_names_exist_and_others_do_not() -> None:
    assert all(callable(getattr(runtime.kernels, name)) for name in runtime.kernels.__all__)
    with pytest.raises(AttributeError, match="no attribute 'dot_f64'"):
        runtime.kernels.dot_f64  # noqa: B018


def test_the_variable_may_name_the_file_or_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copy(find(), tmp_path / FILE_NAME))
    for choice in (copy, tmp_path):
        monkeypatch.setenv("LOCALQ_KERNELS", str(choice))
        assert find() == copy


def test_a_variable_that_names_nothing_is_an_error_and_no_other_place_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in (tmp_path, tmp_path / "absent.so"):
        monkeypatch.setenv("LOCALQ_KERNELS", str(choice))
        with pytest.raises(KernelError, match=f"LOCALQ_KERNELS={choice}: no such library"):
            find()


def test_a_missing_library_is_an_error_that_names_the_places_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.kernels, "__path__", [str(tmp_path), str(tmp_path / "installed")])
    with pytest.raises(KernelError) as missing:
        find()
    message = str(missing.value)
    assert f"{FILE_NAME} is not in {tmp_path}, {tmp_path / 'installed'};" in message
    assert message.endswith("run `make rebuild` in a checkout, or reinstall localq")


def test_of_a_checkout_and_its_editable_installation_the_last_build_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, installed = tmp_path / "checkout", tmp_path / "installed"
    checkout.mkdir()
    installed.mkdir()
    shutil.copy(find(), installed / FILE_NAME)
    monkeypatch.setattr(runtime.kernels, "__path__", [str(installed), str(checkout)])
    assert find() == installed / FILE_NAME
    shutil.copy(installed / FILE_NAME, checkout / FILE_NAME)
    for newest, oldest in [(checkout, installed), (installed, checkout)]:
        os.utime(oldest / FILE_NAME, (1000, 1000))
        os.utime(newest / FILE_NAME, (2000, 2000))
        assert find() == newest / FILE_NAME


def test_a_file_that_is_no_library_is_an_error_with_the_loader_s_reason(tmp_path: Path) -> None:
    broken = tmp_path / FILE_NAME
    broken.write_bytes(find().read_bytes()[:100])
    assert f"KernelError: {broken} cannot be loaded: " in run_with(broken)


def test_a_library_of_something_else_is_an_error_with_the_missing_name() -> None:
    import _ctypes

    text = run_with(Path(_ctypes.__file__))
    assert "cannot be loaded" in text
    assert "localq_abi_version" in text


def test_a_library_of_another_abi_is_refused_with_both_versions() -> None:
    code = f"""
import runtime.kernels.library as library
library.ABI_VERSION = {ABI_VERSION + 1}
library.load()
"""
    text = run_with(find(), code)
    assert f"has ABI {ABI_VERSION}, these bindings need {ABI_VERSION + 1}; run `make rebuild`" in text


def test_the_library_is_loaded_once() -> None:
    assert load() is load()


def test_header_and_bindings_name_the_same_abi() -> None:
    assert f"#define LOCALQ_ABI_VERSION {ABI_VERSION}\n" in HEADER.read_text()
