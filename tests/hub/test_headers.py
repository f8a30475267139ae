from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import HubMisbehaved
from app.hub.api import Hub, RemoteRepo
from app.hub.headers import remote_gguf_header, remote_safetensors_header, skim_remote
from app.hub.reference import HubReference
from app.hub.sketch import sketch_config, sketch_gguf
from app.settings import Settings
from runtime.budget.plan import plan_headers
from runtime.engine.config import EngineConfig
from runtime.errors import GgufError
from runtime.gguf import open_gguf, summarize
from runtime.hardware import this_machine
from tests.app.tiny_model import write_tiny_model
from tests.hub.pulling import CONFIG, IMPATIENT, model_bytes
from tests.hub.server import FakeHub


def found(hub: Hub) -> RemoteRepo:
    return hub.repo(HubReference("org/model"))


def test_a_remote_header_is_the_header(fake_hub: FakeHub, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "model.gguf", ballast_mib=40)
    fake_hub.add("org/model", {"model.gguf": path.read_bytes()})
    with Hub(IMPATIENT) as hub:
        repo = found(hub)
        remote = remote_gguf_header(hub, repo, repo.files[0])
    local = open_gguf(path)
    assert remote.metadata == local.metadata
    assert remote.tensors == local.tensors
    assert (remote.file_size, remote.data_offset) == (local.file_size, local.data_offset)
    assert summarize(remote) == summarize(local)
    assert fake_hub.bytes_sent <= 1 << 18


def test_a_header_longer_than_a_request_is_read_in_several(
    fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.hub.headers.FIRST_BYTES", 512)
    path = write_tiny_model(tmp_path / "model.gguf")
    fake_hub.add("org/model", {"model.gguf": path.read_bytes()})
    with Hub(IMPATIENT) as hub:
        repo = found(hub)
        assert remote_gguf_header(hub, repo, repo.files[0]).tensors == open_gguf(path).tensors
    assert sum(seen.server == "cdn" for seen in fake_hub.seen) >= 3


def test_a_broken_remote_header_is_refused(fake_hub: FakeHub) -> None:
    broken = bytearray(model_bytes())
    broken[16:24] = (1 << 60).to_bytes(8, "little")
    fake_hub.add("org/model", {"model.gguf": bytes(broken)})
    with Hub(IMPATIENT) as hub:
        repo = found(hub)
        with pytest.raises(GgufError):
            remote_gguf_header(hub, repo, repo.files[0])


def test_a_sketch_plans_nearly_what_the_header_plans(fake_hub: FakeHub, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "model.gguf", ballast_mib=40)
    fake_hub.add("org/model", {"model.gguf": path.read_bytes()})
    with Hub(IMPATIENT) as hub:
        repo = found(hub)
        raw = skim_remote(hub, repo, repo.files[0])
    machine, config = this_machine(), EngineConfig(model_paths=("model.gguf",), context_tokens=512)
    sketched = plan_headers([sketch_gguf(raw, path.stat().st_size)], config, machine)
    planned = plan_headers([open_gguf(path)], config, machine)
    assert sketched.kv_cache == planned.kv_cache
    assert abs(sketched.total - planned.total) <= 0.02 * planned.total


def test_a_config_sketches_the_cache_that_its_widths_need() -> None:
    engine = EngineConfig(model_paths=("x",), context_tokens=4096)
    for told in (CONFIG, {"model_type": "vision", "text_config": CONFIG}, {**CONFIG, "head_dim": 64}):
        plan = plan_headers([sketch_config(told, 1 << 30)], engine, this_machine())
        assert plan.kv_cache == 2 * 16 * 8 * 64 * 2 * 4096
        assert plan.weights == 1 << 30
    assert Settings().context is None


@pytest.mark.parametrize(
    "told", [{}, {"hidden_size": "2048"}, {"hidden_size": True, "num_hidden_layers": -1}]
)
def test_a_config_without_widths_is_no_model(told: dict[str, object]) -> None:
    with pytest.raises(GgufError):
        plan_headers([sketch_config(told, 1)], EngineConfig(model_paths=("x",)), this_machine())


def test_a_safetensors_header_is_read_by_ranges(fake_hub: FakeHub) -> None:
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a.weight": {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]},
            "b": {"dtype": "F32", "shape": [], "data_offsets": [64, 68]},
        }
    ).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(1 << 20)
    fake_hub.add("org/model", {"model.safetensors": data})
    with Hub(IMPATIENT) as hub:
        repo = found(hub)
        tensors = remote_safetensors_header(hub, repo, repo.files[0])
    assert list(tensors) == ["a.weight", "b"]
    assert (tensors["a.weight"].dtype, tensors["a.weight"].shape) == ("BF16", (4, 8))
    assert tensors["b"].data_offsets == (64, 68)
    assert fake_hub.bytes_sent == 8 + len(header)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        (1 << 63).to_bytes(8, "little") + bytes(100),
        (17 << 20).to_bytes(8, "little") + bytes(100),
        (101).to_bytes(8, "little") + bytes(100),
        (4).to_bytes(8, "little") + b"\xff\xff\xff\xff",
        (2).to_bytes(8, "little") + b"[]",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        (27).to_bytes(8, "little") + b'{"a": {"dtype": 7, "s": []}',
    ],
)
def test_a_hostile_safetensors_header_is_refused(data: bytes, fake_hub: FakeHub) -> None:
    fake_hub.add("org/model", {"model.safetensors": data})
    with Hub(IMPATIENT) as hub:
        repo = found(hub)
        with pytest.raises(HubMisbehaved):
            remote_safetensors_header(hub, repo, repo.files[0])
