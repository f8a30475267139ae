from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from app.errors import SettingsError
from app.limits import KV_TYPES
from app.settings import _PARSERS, Settings, load_settings, parse_size
from runtime.engine.config import KvType


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    file = write(tmp_path, "")
    assert load_settings(environ={}, file=file) == Settings()


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'context = 1000\nthreads = 1\nkv = "q8_0"\nram = "1G"\n')
    settings = load_settings(
        {"context": 3000, "threads": None},
        environ={"LOCALQ_CONTEXT": "2000", "LOCALQ_THREADS": "2"},
        file=file,
    )
    assert (settings.context, settings.threads, settings.kv, settings.ram) == (3000, 2, "q8_0", 1 << 30)


def test_an_empty_variable_is_not_a_setting(tmp_path: Path) -> None:
    assert load_settings(environ={"LOCALQ_CONTEXT": ""}, file=write(tmp_path, "")).context is None


def test_an_unknown_key_is_named_with_its_file_and_the_nearest_key(tmp_path: Path) -> None:
    file = write(tmp_path, "contxt = 5\n")
    with pytest.raises(SettingsError, match=r"'contxt'.*nearest is 'context'") as caught:
        load_settings(environ={}, file=file)
    assert caught.value.key == "contxt"
    assert caught.value.source == str(file)
    assert str(file) in str(caught.value)
    assert caught.value.next_command is not None and str(file) in caught.value.next_command


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("context = 0", "context"),
        ("context = true", "context"),
        ("context = 1.5", "context"),
        ("threads = -1", "threads"),
        ('threads = "many"', "threads"),
        ('kv = "q5"', "kv"),
        ("kv = 4", "kv"),
        ('ram = "lots"', "ram"),
        ("ram = 0", "ram"),
        ("ram = [1]", "ram"),
        ('color = "pink"', "color"),
        ('home = ""', "home"),
    ],
)
def test_a_value_that_its_key_cannot_take_is_refused(tmp_path: Path, line: str, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={}, file=write(tmp_path, line))
    assert caught.value.key == key


def test_a_bad_variable_is_named_and_its_cure_is_to_unset_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"LOCALQ_KV.*'q9'") as caught:
        load_settings(environ={"LOCALQ_KV": "q9"}, file=write(tmp_path, ""))
    assert caught.value.next_command == "unset LOCALQ_KV"


@pytest.mark.parametrize("raw", [b"context = \n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(raw)
    with pytest.raises(SettingsError, match="is not TOML"):
        load_settings(environ={}, file=file)


def test_a_file_that_is_named_must_exist_and_the_default_one_need_not(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(environ={"LOCALQ_CONFIG": str(tmp_path / "none.toml")})
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(environ={}, file=tmp_path)


def test_localq_config_names_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'color = "never"\nhome = "/somewhere"\n')
    settings = load_settings(environ={"LOCALQ_CONFIG": str(file)})
    assert (settings.color, settings.home) == ("never", Path("/somewhere"))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("6G", 6 << 30),
        ("512MiB", 512 << 20),
        ("1.5g", 3 << 29),
        ("1000", 1000),
        ("2kb", 2048),
        (" 1T ", 1 << 40),
    ],
)
def test_a_size_is_read_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1e9", "0", "0.0001", "1 P", "6GG", "٣G", "9" * 40])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "value"), [("false", False), ("0", False), ("OFF", False), ("true", True), ("yes", True)]
)
def test_a_switch_is_read_from_the_environment_and_the_file(text: str, value: bool, tmp_path: Path) -> None:
    assert load_settings(environ={"LOCALQ_HISTORY": text}, file=_empty(tmp_path)).history is value
    (tmp_path / "own.toml").write_text("history = false\n")
    assert load_settings(environ={}, file=tmp_path / "own.toml").history is False
    with pytest.raises(SettingsError, match="neither true nor false"):
        load_settings(environ={"LOCALQ_HISTORY": "perhaps"}, file=_empty(tmp_path))


def _empty(folder: Path) -> Path:
    path = folder / "empty.toml"
    path.touch()
    return path


def test_the_types_of_the_cache_are_those_of_the_engine() -> None:
    assert get_args(KvType) == KV_TYPES


def test_every_setting_has_a_parser() -> None:
    assert set(_PARSERS) == {field.name for field in fields(Settings)}


def test_importing_the_settings_touches_no_file_of_the_person(tmp_path: Path) -> None:
    program = (
        "import sys, app.errors, runtime.engine.config\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "import app.settings\n"
        "print([path for path in opened if not path.endswith(('.py', '.pyc', '.so'))\n"
        "       and '/__pycache__/' not in path])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_settings_cannot_be_changed() -> None:
    settings: Any = Settings()
    with pytest.raises(AttributeError):
        settings.context = 1
