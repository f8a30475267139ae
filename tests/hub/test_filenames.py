from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import NoSuchChoice
from app.hub.filenames import objection
from app.store import Store
from tests.hostile.repo_files import HARMLESS_NAMES, HOSTILE_NAMES
from tests.hub.pulling import assert_sound, files_below, model_bytes, pull
from tests.hub.server import FakeHub


def test_the_list_is_long_enough() -> None:
    assert len(HOSTILE_NAMES) >= 40


@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES)
def test_a_hostile_name_is_refused(name: str) -> None:
    assert objection(name)


@pytest.mark.parametrize("name", HARMLESS_NAMES)
def test_an_ordinary_name_is_not(name: str) -> None:
    assert objection(name) is None


@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES)
def test_a_repository_with_a_hostile_name_writes_nothing_outside(
    name: str, fake_hub: FakeHub, tmp_path: Path
) -> None:
    weights = name if ".gguf" in name else f"{name}/evil.gguf"
    fake_hub.add("org/model", {weights: model_bytes(), f"{name}.json": b"{}"})
    store = Store(tmp_path / "deep" / "home")
    with pytest.raises(NoSuchChoice) as caught:
        pull(store)
    assert files_below(tmp_path) == set()
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES)
def test_it_does_not_keep_an_honest_file_from_being_pulled(
    name: str, fake_hub: FakeHub, tmp_path: Path
) -> None:
    fake_hub.add("org/model", {name: b"x", f"{name}.gguf": b"x", "model-Q4_K_M.gguf": model_bytes()})
    store = Store(tmp_path / "deep" / "home")
    manifest = pull(store)
    assert [file.filename for file in manifest.files] == ["model-Q4_K_M.gguf"]
    assert_sound(store, ["org/model:q4_k_m"])
    assert all(path.startswith("deep/home/") for path in files_below(tmp_path))


def test_twins_that_differ_in_case_only_are_two_models(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.add("org/model", {"model.gguf": model_bytes(seed=1), "MODEL.gguf": model_bytes(seed=2)})
    store = Store(tmp_path)
    first = pull(store, "org/model/model.gguf", name="one")
    second = pull(store, "org/model/MODEL.gguf", name="two")
    assert store.paths(first)[0].read_bytes() == model_bytes(seed=1)
    assert store.paths(second)[0].read_bytes() == model_bytes(seed=2)
