"""Killed pulls, pulls at the same time, flipped bits, and memory; the ``slow`` ones at their full length."""

from __future__ import annotations

import hashlib
import os
import random
import time
from pathlib import Path

import pytest

from app.errors import WrongHash
from app.hub.session import Patience
from app.store import Store
from tests.hub.children import PullChild, kept_bytes, throttled
from tests.hub.faults import CASES, WEIGHTS, flipped
from tests.hub.pulling import MIB, assert_sound, files_below, model_bytes, pull
from tests.hub.server import FakeHub

MOST_AGAIN = 16 * MIB
"""Bytes that a kill may cost."""


def kill_pulls(hub: FakeHub, home: Path, size: int, kills: int, seed: int) -> list[int]:
    """Kills pulls of ``org/model`` at random offsets, ``kills`` times; what each cost of bytes.

    A pull that was killed goes on in the next; one that completes is removed, and the next begins anew.
    """
    chance = random.Random(seed)
    store = Store(home)
    costs: list[int] = []
    while len(costs) < kills:
        before = kept_bytes(home, size)
        hub.forget()
        left = size - before
        limit = chance.randrange(1, max(2, min(left, size // 4)))
        with PullChild(home) as child:
            child.read()
            child.ask("org/model")
            while hub.bytes_sent < limit and child.running and not store.list():
                time.sleep(0.001)
            child.kill()
        manifests = store.list()
        if manifests:
            assert store.paths(manifests[0])[0].stat().st_size == size
            assert list(store.verify([manifests[0].name])) == []
            store.remove(manifests[0].name)
            continue
        costs.append(hub.bytes_sent - (kept_bytes(home, size) - before))
        assert_sound(store, [])
    manifest = pull(store, patience=Patience())
    assert_sound(store, [manifest.name])
    assert files_below(store.work) == set()
    return costs


def test_a_killed_pull_fetches_little_again(fake_hub: FakeHub, tmp_path: Path) -> None:
    data = model_bytes(32)
    fake_hub.add("org/model", {WEIGHTS: data})
    fake_hub.fault = throttled(30e6)
    costs = kill_pulls(fake_hub, tmp_path, len(data), 5, seed=1)
    assert max(costs) <= MOST_AGAIN
    assert any(costs), "a kill costs something: otherwise nothing was killed on the way"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_two_hundred_kills_of_a_pull_of_a_gigabyte(fake_hub: FakeHub, tmp_path: Path) -> None:
    data = tmp_path / "model.gguf"
    data.write_bytes(model_bytes(1024))
    fake_hub.add("org/model", {WEIGHTS: data})
    fake_hub.fault = throttled(60e6)
    costs = kill_pulls(fake_hub, tmp_path / "home", data.stat().st_size, 200, seed=2)
    mean = sum(costs) / len(costs)
    print(f"{len(costs)} kills: at most {max(costs) / MIB:.1f} MiB again, {mean / MIB:.1f} on average")
    assert len(costs) == 200
    assert max(costs) <= MOST_AGAIN


def flip_bits(hub: FakeHub, home: Path, flips: int, seed: int) -> None:
    """Every flipped bit is found before a blob exists."""
    data = model_bytes(3)
    hub.add("org/model", {WEIGHTS: data})
    chance = random.Random(seed)
    store = Store(home)
    for _ in range(flips):
        hub.fault = flipped(chance.randrange(len(data)))
        with pytest.raises(WrongHash):
            pull(store)
        assert files_below(home / "blobs") == files_below(store.work) == set()
    hub.fault = None
    assert_sound(store, [pull(store).name])


def test_twenty_flipped_bits_are_all_found(fake_hub: FakeHub, tmp_path: Path) -> None:
    flip_bits(fake_hub, tmp_path, 20, seed=1)


@pytest.mark.slow
def test_three_hundred_flipped_bits_are_all_found(fake_hub: FakeHub, tmp_path: Path) -> None:
    flip_bits(fake_hub, tmp_path, 300, seed=2)


def share_a_download(hub: FakeHub, home: Path, mib: int, processes: int) -> None:
    data = model_bytes(mib)
    hub.add("org/model", {WEIGHTS: data})
    hub.fault = throttled(20e6)
    children = [PullChild(home) for _ in range(processes)]
    try:
        for child in children:
            child.read()
        for child in children:
            child.ask("org/model")
        answers = [child.read() for child in children]
    finally:
        for child in children:
            child.__exit__(None, None, None)
    digest = f"sha256-{hashlib.sha256(data).hexdigest()}"
    assert [answer.get("digest") for answer in answers] == [digest] * processes, answers
    print(f"{processes} processes: {hub.bytes_sent / len(data):.3f} times the bytes of one")
    assert hub.bytes_sent == len(data)
    assert_sound(Store(home), ["org/model:q4_k_m"])


def test_four_processes_share_one_download(fake_hub: FakeHub, tmp_path: Path) -> None:
    share_a_download(fake_hub, tmp_path, 8, 4)


@pytest.mark.slow
def test_sixteen_processes_share_one_download(fake_hub: FakeHub, tmp_path: Path) -> None:
    share_a_download(fake_hub, tmp_path, 96, 16)


def test_a_dead_process_keeps_nobody_waiting(fake_hub: FakeHub, tmp_path: Path) -> None:
    data = model_bytes(16)
    fake_hub.add("org/model", {WEIGHTS: data})
    fake_hub.fault = throttled(10e6)
    with PullChild(tmp_path) as first, PullChild(tmp_path) as second:
        for child in (first, second):
            child.read()
            child.ask("org/model")
            while fake_hub.bytes_sent < 2 * MIB:
                time.sleep(0.01)
        first.kill()
        fake_hub.fault = None
        killed = time.monotonic()
        answer = second.read()
        waited = time.monotonic() - killed
    assert answer["name"] == "org/model:q4_k_m"
    assert waited < 5.0
    assert fake_hub.bytes_sent <= len(data) + MOST_AGAIN


def test_no_fault_takes_much_memory(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.add("org/good", {WEIGHTS: model_bytes()})
    with PullChild(tmp_path / "home", "impatient") as child:
        child.read()
        child.ask("org/good")
        base = int(child.read()["peak_bytes"])
        used: dict[str, int] = {}
        for case in CASES:
            if case.id in ("N07", "N08"):
                continue  # these only take time
            fake_hub.add("org/model", {WEIGHTS: model_bytes(6)})
            fake_hub.fault = case.fault()
            child.ask("org/model")
            answer = child.read()
            assert answer.get("error") != "died", case.what
            used[f"{case.id} {case.what}"] = int(answer["peak_bytes"]) - base
            for manifest in Store(tmp_path / "home").list():
                if manifest.name.startswith("org/model"):
                    Store(tmp_path / "home").remove(manifest.name)
    most = max(used, key=lambda what: used[what])
    print(f"at most {used[most] / MIB:.1f} MiB above {base / MIB:.1f} MiB: {most}")
    assert used[most] <= 64 * MIB, most


def test_the_token_of_hf_auth_login_is_used(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.add("org/private", {WEIGHTS: model_bytes()}, token="hf_from_file")
    token = Path(os.environ["HF_HOME"], "token")
    token.parent.mkdir(parents=True)
    token.write_text("hf_from_file\n")
    with PullChild(tmp_path / "home") as child:  # huggingface_hub looks for the file when it is imported
        child.read()
        child.ask("org/private")
        assert child.read().get("name") == "org/private:q4_k_m"
    assert all("hf_from_file" not in repr(seen) for seen in fake_hub.seen if seen.server == "cdn")
