"""Kept beginnings: what is written is read again, by the same model only, and damage is noticed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.engine import prefixes
from runtime.engine.prefixes import PrefixStore, identity_of, make_room

TOKENS = list(range(300))
STATE = bytes(range(256)) * 40


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path: Path, notices: list[str]) -> Callable[..., PrefixStore]:
    """Opens the folder, as a process that has just begun."""

    def store(identity: bytes = b"m" * 32, limit: int = 1 << 20) -> PrefixStore:
        return PrefixStore(tmp_path / "kept", limit, identity, notices.append)

    return store


def written(folder: Path, count: int = 1) -> list[Path]:
    """The files, when there are so many."""
    limit = time.monotonic() + 5
    while len(found := sorted(folder.glob("*.prefix"))) != count:
        assert time.monotonic() < limit, found
        time.sleep(0.01)
    return found


def test_what_is_kept_is_found_by_the_next_process(
    opened: Callable[..., PrefixStore], tmp_path: Path, notices: list[str]
) -> None:
    store = opened()
    assert not store.knows(TOKENS)
    store.keep(TOKENS, STATE)
    assert store.knows(TOKENS)
    (path,) = written(tmp_path / "kept")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    again = opened()
    assert again.knows(TOKENS) and not again.knows(TOKENS[:-1])
    kept = again.longest([*TOKENS, 7], 0)
    assert kept is not None and kept.tokens.tolist() == TOKENS
    state = again.load(kept)
    assert state is not None and bytes(state) == STATE
    assert again.longest(TOKENS, 0) is None  # one token has to be computed
    assert again.longest([*TOKENS, 7], 300) is None
    assert again.longest([*TOKENS[:-1], 7, 7], 0) is None
    assert notices == []


def test_the_longest_is_taken(opened: Callable[..., PrefixStore], tmp_path: Path) -> None:
    store = opened()
    for count in (100, 300, 200):
        store.keep(TOKENS[:count], STATE)
    written(tmp_path / "kept", 3)
    kept = opened().longest([*TOKENS[:250], 9, 9], 0)
    assert kept is not None and len(kept.tokens) == 200


def test_another_models_files_are_nothing_to_it(
    opened: Callable[..., PrefixStore], tmp_path: Path, notices: list[str]
) -> None:
    opened().keep(TOKENS, STATE)
    written(tmp_path / "kept")
    assert not opened(b"n" * 32).knows(TOKENS)
    assert notices == []


@pytest.mark.parametrize("place", [0, 20, 60, 79, 81, 500, -1])
def test_a_damaged_file_is_ignored_with_a_notice(
    opened: Callable[..., PrefixStore], tmp_path: Path, notices: list[str], place: int
) -> None:
    opened().keep(TOKENS, STATE)
    (path,) = written(tmp_path / "kept")
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    store = opened()
    kept = store.longest([*TOKENS, 7], 0)
    if kept is not None:
        assert store.load(kept) is None
        assert store.longest([*TOKENS, 7], 0) is None and not path.exists()
    if not 48 <= (place % len(data)) < 80:  # else it is another model's
        assert len(notices) == 1 and "damaged" in notices[0]


@pytest.mark.parametrize("length", [0, 10, 83, 84, 1000, 2000])
def test_one_that_broke_off_too(
    opened: Callable[..., PrefixStore], tmp_path: Path, notices: list[str], length: int
) -> None:
    opened().keep(TOKENS, STATE)
    (path,) = written(tmp_path / "kept")
    path.write_bytes(path.read_bytes()[:length])
    store = opened()
    kept = store.longest([*TOKENS, 7], 0)
    assert kept is None or store.load(kept) is None
    assert len(notices) == 1 and "damaged" in notices[0]


def test_one_that_is_gone_is_forgotten(
    opened: Callable[..., PrefixStore], tmp_path: Path, notices: list[str]
) -> None:
    store = opened()
    store.keep(TOKENS, STATE)
    (path,) = written(tmp_path / "kept")
    kept = store.longest([*TOKENS, 7], 0)
    path.unlink()
    assert kept is not None and store.load(kept) is None and not store.knows(TOKENS)
    assert notices == []


def test_those_unused_the_longest_make_room(opened: Callable[..., PrefixStore], tmp_path: Path) -> None:
    limit = 3 * (len(STATE) + 2000)
    store = opened(limit=limit)
    for number in range(3):
        store.keep(TOKENS[number:], STATE)
        written(tmp_path / "kept", number + 1)
    times = {name: at for at, name in enumerate(sorted(path.name for path in (tmp_path / "kept").iterdir()))}
    for path in (tmp_path / "kept").iterdir():
        os.utime(path, (times[path.name], times[path.name]))
    oldest = min(times, key=times.__getitem__)
    store.keep(TOKENS[9:], STATE)
    limit_time = time.monotonic() + 5
    while (tmp_path / "kept" / oldest).exists():
        assert time.monotonic() < limit_time
        time.sleep(0.01)
    written(tmp_path / "kept", 3)
    store.keep(TOKENS, b"x" * limit)  # larger than all may be
    assert len(written(tmp_path / "kept", 3)) == 3


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    part = tmp_path / "a.prefix.123.part"
    part.touch()
    make_room(tmp_path, 0)
    assert part.exists()  # it may still be written
    os.utime(part, (0, 0))
    make_room(tmp_path, 0)
    assert not part.exists()


def test_a_model_that_has_changed_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"x" * 100_000)
    first = identity_of([str(path)], "f16")
    assert len(first) == prefixes.DIGEST
    assert identity_of([str(path)], "f16") == first != identity_of([str(path)], "q8_0")
    state = path.stat()
    path.write_bytes(b"x" * 99_999 + b"y")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert identity_of([str(path)], "f16") != first
