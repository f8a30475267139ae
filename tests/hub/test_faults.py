"""A broken or hostile Hub: typed errors, a sound store, and nothing outside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import AppError, HubError, InvalidReference
from app.store import Store
from tests.hub.faults import CASES, WEIGHTS, Case
from tests.hub.pulling import assert_sound, files_below, model_bytes, pull
from tests.hub.server import FakeHub


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id} {case.what}")
def test_a_broken_hub_gives_a_typed_error_or_the_model(case: Case, fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(6), "chat_template.jinja": b"{{ x }}"})
    fake_hub.fault = case.fault()
    store = Store(tmp_path / "home")
    if case.error is None:
        manifest = pull(store)
        assert store.paths(manifest)[0].read_bytes() == model_bytes(6)
        assert_sound(store, [manifest.name])
    else:
        with pytest.raises(
            (case.error, InvalidReference) if case.error is HubError else case.error
        ) as caught:
            pull(store)
        assert isinstance(caught.value, AppError)
        assert_sound(store, [])
        assert not list(store.home.glob("blobs/*"))
    outside = files_below(tmp_path) - {f"home/{name}" for name in files_below(store.home)}
    assert outside == set()


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.error is not None], ids=lambda case: case.what
)
def test_after_a_fault_the_same_pull_works(case: Case, fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(6)})
    fake_hub.fault = case.fault()
    store = Store(tmp_path)
    with pytest.raises(AppError):
        pull(store)
    fake_hub.fault = None
    manifest = pull(store)
    assert store.paths(manifest)[0].read_bytes() == model_bytes(6)
    assert_sound(store, [manifest.name])
    assert files_below(tmp_path / "tmp") == set()
