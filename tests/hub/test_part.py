from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from app.hub import part as part_module
from app.hub.part import CHUNK_BYTES, Part, open_parts

SIZE = 5 * CHUNK_BYTES + 7
KEY = "sha256-" + "a" * 64


def fresh(folder: Path) -> Part:
    folder.mkdir(exist_ok=True)
    return Part(folder, SIZE)


def filled(folder: Path, *indices: int, sync: bool = False) -> None:
    """What a process leaves that wrote these chunks and was killed."""
    part = fresh(folder)
    for index in indices:
        part.write(bytes([index + 1]) * part.length(index), index * CHUNK_BYTES)
        part.mark(index)
    if sync:
        part.sync()
    os.close(part.fd)


def test_a_new_part_lacks_everything(tmp_path: Path) -> None:
    part = fresh(tmp_path / "part")
    assert part.missing() == [0, 1, 2, 3, 4, 5]
    assert part.done_bytes == 0
    assert not part.complete


def test_a_killed_process_loses_no_chunk_that_it_marked(tmp_path: Path) -> None:
    filled(tmp_path / "part", 0, 2, 5)
    part = fresh(tmp_path / "part")
    assert part.missing() == [1, 3, 4]
    assert part.done_bytes == 2 * CHUNK_BYTES + 7
    assert os.pread(part.fd, 9, 2 * CHUNK_BYTES) == b"\3" * 9


def test_after_a_restart_of_the_machine_only_what_was_synced_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "part", 0, 1, sync=True)
    filled(tmp_path / "part", 3)
    monkeypatch.setattr(part_module, "boot_id", lambda: "another")
    assert fresh(tmp_path / "part").missing() == [2, 3, 4, 5]
    monkeypatch.undo()
    assert fresh(tmp_path / "part").missing() == [2, 3, 4, 5], "what was dropped does not come back"


def test_where_nobody_knows_about_restarts_only_what_was_synced_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_module, "boot_id", lambda: "")
    filled(tmp_path / "part", 0, sync=True)
    filled(tmp_path / "part", 1)
    assert fresh(tmp_path / "part").missing() == [1, 2, 3, 4, 5]


def test_this_machine_tells_its_restarts() -> None:
    assert part_module.boot_id()


@pytest.mark.parametrize("damage", ["short", "long", "empty", "data gone", "data short", "nonsense"])
def test_a_damaged_log_is_trusted_as_far_as_it_can_be(damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "part"
    filled(folder, 0, 1, 2, 3, 4, 5)
    log, data = folder / "chunks", folder / "data"
    if damage == "short":
        log.write_bytes(log.read_bytes()[:-1])
    elif damage == "long":
        log.write_bytes(log.read_bytes() + b"\1")
    elif damage == "empty":
        log.write_bytes(b"")
    elif damage == "data gone":
        data.unlink()
    elif damage == "data short":
        os.truncate(data, 3 * CHUNK_BYTES + 1)
    else:
        log.write_bytes(log.read_bytes()[:64] + b"\7" * 6)
    expected = [3, 4, 5] if damage == "data short" else [0, 1, 2, 3, 4, 5]
    assert fresh(folder).missing() == expected


def test_a_forgotten_part_starts_anew(tmp_path: Path) -> None:
    filled(tmp_path / "part", 0, 1)
    part = fresh(tmp_path / "part")
    part.forget()
    assert part.missing() == [0, 1, 2, 3, 4, 5]
    assert fresh(tmp_path / "part").missing() == [0, 1, 2, 3, 4, 5]
    assert (tmp_path / "part" / "data").stat().st_size == 0


def test_a_part_through_a_symbolic_link_is_not_opened(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "data").symlink_to(victim)
    with pytest.raises(Exception, match="data"):
        fresh(tmp_path / "part")
    assert victim.read_bytes() == b"precious"


def test_a_part_in_which_nothing_came_leaves_nothing(tmp_path: Path) -> None:
    with open_parts(tmp_path, {KEY: SIZE}, lambda here: None):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_another_waits_for_the_lock_and_hears_how_far_it_is(tmp_path: Path) -> None:
    heard: list[int] = []
    order: list[str] = []
    release = threading.Event()

    def wait() -> None:
        with open_parts(tmp_path, {KEY: SIZE}, lambda here: heard.append(here[KEY])) as parts:
            order.append("second")
            assert parts[KEY].done_bytes == CHUNK_BYTES

    with open_parts(tmp_path, {KEY: SIZE}, lambda here: None) as parts:
        parts[KEY].write(b"\1" * CHUNK_BYTES, 0)
        parts[KEY].mark(0)
        other = threading.Thread(target=wait)
        other.start()
        while not heard:
            release.wait(0.01)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
    assert set(heard) == {CHUNK_BYTES}


def test_a_folder_that_its_owner_removed_is_made_again(tmp_path: Path) -> None:
    seen: list[bool] = []

    def wait() -> None:
        with open_parts(tmp_path, {KEY: SIZE}, lambda here: seen.append(True)) as parts:
            parts[KEY].write(b"\1" * 9, 0)
            assert parts[KEY].data.exists()

    with open_parts(tmp_path, {KEY: SIZE}, lambda here: None) as parts:
        other = threading.Thread(target=wait)
        other.start()
        while not seen:
            threading.Event().wait(0.01)
        parts[KEY].remove()
    other.join(10)
    assert not other.is_alive()
