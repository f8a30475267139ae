"""What a pull brings, leaves alone, shares, replaces and keeps."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from app.errors import (
    HubOffline,
    HubUnreachable,
    NameTaken,
    NoSuchChoice,
    NotAllowed,
    NotEnoughDisk,
    NotOnHub,
    WrongHash,
)
from app.hub.part import CHUNK_BYTES, Part
from app.hub.pull import Event, FileEvent, FoundEvent, PlannedEvent
from app.store import Store, disk
from app.store.temporary import PULL_PREFIX
from tests.hub.faults import flipped, status
from tests.hub.pulling import IMPATIENT, assert_sound, files_below, model_bytes, pull
from tests.hub.server import FakeHub, Fault, Request

WEIGHTS = "model-Q4_K_M.gguf"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def split_model(folder: Path, parts: int = 3) -> dict[str, bytes]:
    """A model in parts, as gguf-split writes it: metadata in the first, tensors in all."""
    whole = gguf.GGUFReader(str(_written(folder, "whole.gguf", model_bytes())))
    files = {}
    share = -(-len(whole.tensors) // parts)
    for number in range(parts):
        name = f"model-Q4_K_M-{number + 1:05}-of-{parts:05}.gguf"
        writer = gguf.GGUFWriter(str(folder / name), "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", parts)
        writer.add_int32("split.tensors.count", len(whole.tensors))
        if number == 0:
            for key, value in (("context_length", 512), ("embedding_length", 32), ("block_count", 1)):
                writer.add_uint32(f"llama.{key}", value)
            for key, value in (("feed_forward_length", 64), ("attention.head_count", 2)):
                writer.add_uint32(f"llama.{key}", value)
            writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
            writer.add_tokenizer_model("gpt2")
            writer.add_token_list([f"t{index}" for index in range(300)])
            writer.add_token_types([1] * 300)
            writer.add_token_merges([])
        for tensor in whole.tensors[number * share : (number + 1) * share]:
            writer.add_tensor(tensor.name, np.array(tensor.data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        files[name] = (folder / name).read_bytes()
    return files


def projector(folder: Path) -> bytes:
    writer = gguf.GGUFWriter(str(folder / "mmproj.gguf"), "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    for key in ("image_size", "patch_size", "embedding_length", "feed_forward_length", "block_count"):
        writer.add_uint32(f"clip.vision.{key}", 32)
    for key in ("attention.head_count", "projection_dim"):
        writer.add_uint32(f"clip.vision.{key}", 2)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    writer.add_tensor("v.patch_embd.weight", np.zeros((32, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / "mmproj.gguf").read_bytes()


def _written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_the_manifest_says_where_every_byte_is_from(fake_hub: FakeHub, store: Store) -> None:
    info = {"cardData": {"license": "apache-2.0"}}
    fake_hub.add("Org/Model", {WEIGHTS: model_bytes(), "chat_template.jinja": b"{{ x }}"}, info=info)
    manifest = pull(store, "Org/Model")
    assert manifest.name == "org/model:q4_k_m"
    source = manifest.source
    assert (source.kind, source.origin, source.version) == ("hub", "Org/Model", "c" * 40)
    assert source.license == "apache-2.0"
    assert source.url == f"{fake_hub.endpoint}/Org/Model"
    assert [(file.filename, file.role, file.digest) for file in manifest.files] == [
        (WEIGHTS, "model", f"sha256-{hashlib.sha256(model_bytes()).hexdigest()}"),
        ("chat_template.jinja", "template", f"sha256-{hashlib.sha256(b'{{ x }}').hexdigest()}"),
    ]
    template = store.template(manifest)
    assert template is not None
    assert template.read_bytes() == b"{{ x }}"
    assert_sound(store, ["org/model:q4_k_m"])


def test_parts_and_projector_come_along(fake_hub: FakeHub, store: Store, tmp_path: Path) -> None:
    parts = split_model(tmp_path)
    fake_hub.add("org/model", {**parts, "mmproj-F16.gguf": projector(tmp_path)})
    manifest = pull(store)
    assert [file.role for file in manifest.files] == ["part", "part", "part", "mmproj"]
    assert [path.read_bytes() for path in store.paths(manifest)] == list(parts.values())
    assert store.mmproj(manifest) is not None
    assert_sound(store, ["org/model:q4_k_m"])


def test_the_same_pull_again_fetches_nothing(fake_hub: FakeHub, store: Store) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(), "chat_template.jinja": b"x"})
    first = pull(store)
    fake_hub.forget()
    assert pull(store) == first
    assert fake_hub.bytes_sent == 0


def test_a_file_that_another_model_has_is_shared(fake_hub: FakeHub, store: Store) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes()})
    fake_hub.add("org/other", {"again-Q4_K_M.gguf": model_bytes()})
    pull(store)
    fake_hub.forget()
    events: list[Event] = []
    pull(store, "org/other", listener=events.append)
    assert fake_hub.bytes_sent == 0
    assert any(isinstance(event, FoundEvent) and event.stored for event in events)
    assert_sound(store, ["org/model:q4_k_m", "org/other:q4_k_m"])
    assert len(list((store.home / "blobs").iterdir())) == 1


def test_a_rotten_blob_is_not_shared_but_fetched_again(fake_hub: FakeHub, store: Store) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes()})
    fake_hub.add("org/other", {WEIGHTS: model_bytes()})
    blob = store.paths(pull(store))[0]
    rotten = bytearray(model_bytes())
    rotten[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(rotten)
    (problem,) = store.verify()
    again = f"org/model@{'c' * 40}/{WEIGHTS}"
    assert problem.next_command == (
        f"localq rm org/model:q4_k_m && localq pull {again} --name org/model:q4_k_m"
    )
    pull(store, "org/other")
    assert_sound(store, ["org/model:q4_k_m", "org/other:q4_k_m"])


def test_a_newer_commit_takes_the_place_of_the_older(fake_hub: FakeHub, store: Store) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(seed=1)})
    old = pull(store)
    fake_hub.add("org/model", {WEIGHTS: model_bytes(seed=2)}, commit="d" * 40)
    new = pull(store)
    assert new.source.version == "d" * 40
    assert store.get(old.name) == new
    assert store.paths(new)[0].read_bytes() == model_bytes(seed=2)
    assert_sound(store, [new.name])
    assert len(list((store.home / "blobs").iterdir())) == 1, "the old blob has gone"


def test_a_name_of_something_else_is_never_replaced(fake_hub: FakeHub, store: Store, tmp_path: Path) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(seed=1)})
    store.import_file(_written(tmp_path, "mine.gguf", model_bytes(seed=2)), "mine")
    with pytest.raises(NameTaken):
        pull(store, name="mine")
    assert fake_hub.bytes_sent == 0
    fake_hub.add("org/other", {WEIGHTS: model_bytes(seed=3)})
    pull(store, name="theirs")
    with pytest.raises(NameTaken):
        pull(store, "org/other", name="theirs")
    assert_sound(store, ["mine", "theirs"])


def test_a_pinned_revision_is_what_comes(fake_hub: FakeHub, store: Store) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes()})
    manifest = pull(store, f"org/model@{'c' * 40}")
    assert manifest.source.version == "c" * 40
    with pytest.raises(NotOnHub, match="revision"):
        pull(store, "org/model@other")
    assert all(f"/resolve/{'c' * 40}/" in seen.target for seen in fake_hub.seen if "/resolve/" in seen.target)


def test_a_full_disk_is_told_before_a_byte_is_fetched(
    fake_hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(3)})
    monkeypatch.setattr(disk, "free_bytes", lambda path: 1 << 20)
    with pytest.raises(NotEnoughDisk) as caught:
        pull(store)
    assert caught.value.free_bytes == 1 << 20
    assert caught.value.needed_bytes >= len(model_bytes(3))
    assert fake_hub.bytes_sent == 0


def test_a_disk_that_fills_up_keeps_what_came(
    fake_hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(8)})
    write = Part.write
    written = 0

    def failing(part: Part, data: bytes, position: int) -> None:
        nonlocal written
        written += len(data)
        if written > 4 << 20:
            raise NotEnoughDisk(part.data, needed_bytes=1, free_bytes=0)
        write(part, data, position)

    with monkeypatch.context() as patch:
        patch.setattr(Part, "write", failing)
        with pytest.raises(NotEnoughDisk):
            pull(store)
    fake_hub.forget()
    manifest = pull(store)
    assert fake_hub.bytes_sent <= len(model_bytes(8)) - (1 << 20)
    assert_sound(store, [manifest.name])


def test_an_interrupt_keeps_the_parts_and_the_next_pull_goes_on(fake_hub: FakeHub, store: Store) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(24)})

    def interrupt(event: Event) -> None:
        if isinstance(event, FileEvent) and event.here_bytes >= 8 << 20:
            raise KeyboardInterrupt

    fake_hub.fault = _slowly(0.02)
    with pytest.raises(KeyboardInterrupt):
        pull(store, listener=interrupt)
    kept = sum(_part(store).values())
    assert kept >= 8 << 20
    fake_hub.forget()
    fake_hub.fault = None
    manifest = pull(store)
    assert fake_hub.bytes_sent == len(model_bytes(24)) - kept
    assert_sound(store, [manifest.name])


def test_parts_are_collected_unless_somebody_works_on_them(fake_hub: FakeHub, store: Store) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(8)})

    def interrupt(event: Event) -> None:
        if isinstance(event, FileEvent) and event.here_bytes >= 2 << 20:
            assert store.usage().reclaimable_bytes == 0
            assert store.gc() == 0, "the pull's own part is not collected"
            raise KeyboardInterrupt

    fake_hub.fault = _slowly(0.02)
    with pytest.raises(KeyboardInterrupt):
        pull(store, listener=interrupt)
    assert store.usage().reclaimable_bytes >= 2 << 20
    assert store.gc() >= 2 << 20
    assert files_below(store.work) == set()


def test_a_wrong_hash_leaves_nothing_to_go_on_from(fake_hub: FakeHub, store: Store) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(3)})
    fake_hub.fault = flipped(100)
    with pytest.raises(WrongHash) as caught:
        pull(store)
    assert caught.value.expected == hashlib.sha256(model_bytes(3)).hexdigest()
    assert files_below(store.work) == set()


def test_a_changed_template_is_caught_by_its_git_hash(fake_hub: FakeHub, store: Store) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(), "chat_template.jinja": b"{{ good }}"})

    def other(request: Request) -> bool:
        if request.file is None or request.file.lfs:
            return False
        request.send_raw(206, b"{{ evil }}", request.file_headers())
        return True

    fake_hub.fault = other
    with pytest.raises(WrongHash):
        pull(store)
    assert_sound(store, [])


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 5\n",
        b"../../../etc/passwd",
        b"<!DOCTYPE html>",
        b"PK\x03\x04" + bytes(100),
        b"\x80\x04c" + bytes(100),
        b"",
        model_bytes()[:5000],
    ],
    ids=["an LFS pointer", "a symbolic link", "a page", "an archive", "a pickle", "nothing", "half a model"],
)
def test_what_is_no_model_is_not_stored(content: bytes, fake_hub: FakeHub, store: Store) -> None:
    fake_hub.add("org/model", {WEIGHTS: content})
    with pytest.raises(NoSuchChoice):
        pull(store)
    assert_sound(store, [])
    assert files_below(store.home / "blobs") == set()
    assert files_below(store.work) == set()


def test_offline_asks_nobody(fake_hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubOffline):
        pull(store)
    assert fake_hub.seen == []


def test_without_a_server_the_error_comes_soon(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match=r"127\.0\.0\.1:9"):
        pull(store)


def test_a_server_without_tls_is_refused_by_https(
    fake_hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", fake_hub.endpoint.replace("http:", "https:"))
    with pytest.raises(HubUnreachable, match="no secure connection"):
        pull(store)


def test_a_proxy_is_used(fake_hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes()})
    proxy = fake_hub.endpoint  # asked for http://hub.localhost/..., it answers for the path
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.localhost")
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked: list[str] = []

    def through(request: Request) -> bool:
        asked.append(request.requested)
        return False

    fake_hub.fault = through
    pull(store)
    assert asked[0].startswith("http://hub.localhost/api/models/org/model")


def test_private_and_gated_repositories_need_the_token(
    fake_hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.add("org/private", {WEIGHTS: model_bytes(seed=1)}, token="hf_secret")
    fake_hub.add("org/gated", {WEIGHTS: model_bytes(seed=2)}, gated=True)
    with pytest.raises(NotOnHub, match="private"):
        pull(store, "org/private")
    with pytest.raises(NotAllowed, match="gated") as caught:
        pull(store, "org/gated")
    assert caught.value.next_command == "hf auth login"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pull(store, "org/private")
    pull(store, "org/gated")
    assert_sound(store, ["org/gated:q4_k_m", "org/private:q4_k_m"])


def test_no_other_host_sees_the_token(
    fake_hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fake_hub.add("org/model", {WEIGHTS: model_bytes(6), "chat_template.jinja": b"x"}, token="hf_secret")
    pull(store)
    assert {seen.server for seen in fake_hub.seen} == {"hub", "cdn"}
    for seen in fake_hub.seen:
        told = "hf_secret" in repr(seen)
        assert told == (seen.server == "hub"), seen


def test_an_expired_address_is_asked_for_again(fake_hub: FakeHub, store: Store) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(12)})
    answered = 0

    def expiring(request: Request) -> bool:
        nonlocal answered
        if request.kind != "cdn":
            return False
        answered += 1
        if answered % 3:
            return False
        request.refuse(403, "", "Request has expired")
        return True

    fake_hub.fault = expiring
    manifest = pull(store, connections=1)
    assert_sound(store, [manifest.name])


def test_a_server_that_bears_one_connection_only_is_pulled_from_with_one(
    fake_hub: FakeHub, store: Store
) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(16)})
    active = 0

    def jealous(request: Request) -> bool:
        nonlocal active
        if request.kind != "cdn":
            return False
        active += 1
        try:
            if active > 1:
                request.refuse(503, "", "one at a time")
            else:
                request.send_head(206, request.file_headers())
                for piece in request.pieces(1 << 17):
                    request.put(piece)
                    time.sleep(0.002)
        finally:
            active -= 1
        return True

    fake_hub.fault = jealous
    manifest = pull(store)
    assert_sound(store, [manifest.name])


def test_what_hugging_face_has_in_its_cache_is_linked(
    fake_hub: FakeHub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256(model_bytes()).hexdigest()
    blobs = tmp_path / "cache" / "models--org--model" / "blobs"
    blobs.mkdir(parents=True)
    blob = _written(blobs, sha256, model_bytes())
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    _pull_linked(fake_hub, store, blob)


def test_what_ollama_has_is_linked(
    fake_hub: FakeHub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256(model_bytes()).hexdigest()
    (tmp_path / "ollama" / "blobs").mkdir(parents=True)
    blob = _written(tmp_path / "ollama" / "blobs", f"sha256-{sha256}", model_bytes())
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    _pull_linked(fake_hub, store, blob)


def test_what_lm_studio_has_is_linked(fake_hub: FakeHub, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "person" / ".lmstudio" / "models" / "org" / "model"
    folder.mkdir(parents=True)
    _pull_linked(fake_hub, store, _written(folder, WEIGHTS, model_bytes()))


def _pull_linked(fake_hub: FakeHub, store: Store, there: Path) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes()})
    fake_hub.forget()
    manifest = pull(store)
    assert fake_hub.bytes_sent == 0
    link = manifest.files[0].link
    assert link is not None
    assert Path(link.path) == there.resolve()
    assert store.paths(manifest) == (there.resolve(),)
    assert_sound(store, [manifest.name])
    store.remove(manifest.name)
    assert there.exists(), "what belongs to another program stays"
    pull(store, reuse=False)
    assert fake_hub.bytes_sent >= len(model_bytes())


@pytest.mark.parametrize("wrong", ["changed", "short", "a folder", "a pipe", "a broken link"])
def test_what_only_looks_like_the_file_is_not_linked(
    wrong: str, fake_hub: FakeHub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = tmp_path / "ollama" / "blobs"
    blobs.mkdir(parents=True)
    there = blobs / f"sha256-{hashlib.sha256(model_bytes()).hexdigest()}"
    if wrong == "changed":
        there.write_bytes(model_bytes()[:-1] + b"\x7f")
    elif wrong == "short":
        there.write_bytes(model_bytes()[:-1])
    elif wrong == "a folder":
        there.mkdir()
    elif wrong == "a pipe":
        os.mkfifo(there)
    else:
        there.symlink_to(tmp_path / "nowhere")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    fake_hub.add("org/model", {WEIGHTS: model_bytes()})
    manifest = pull(store)
    assert manifest.files[0].link is None
    assert_sound(store, [manifest.name])


def test_the_plan_counts_what_is_here(fake_hub: FakeHub, store: Store) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(8), "chat_template.jinja": b"x"})
    events: list[Event] = []
    pull(store, listener=events.append)
    (planned,) = (event for event in events if isinstance(event, PlannedEvent))
    assert planned.total_bytes == planned.to_fetch_bytes == len(model_bytes(8)) + 1
    last = [event for event in events if isinstance(event, FileEvent)][-1]
    assert last.done_bytes == last.total_bytes == planned.total_bytes


def test_a_failed_publication_keeps_what_was_fetched(
    fake_hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(3)})

    def fails(folder: Path, manifest: object) -> None:
        raise NotEnoughDisk(folder, needed_bytes=1, free_bytes=0)

    with monkeypatch.context() as patch:
        patch.setattr("app.store.publish.write_manifest", fails)
        with pytest.raises(NotEnoughDisk):
            pull(store)
    assert_sound(store, [])
    fake_hub.forget()
    manifest = pull(store)
    assert fake_hub.bytes_sent == 0, "all of it was here"
    assert_sound(store, [manifest.name])


def test_a_failing_server_is_asked_no_more_often_than_patience_allows(
    fake_hub: FakeHub, store: Store
) -> None:
    fake_hub.add("org/model", {WEIGHTS: model_bytes(3)})
    fake_hub.fault = status(503)
    with pytest.raises(Exception, match="503"):
        pull(store, connections=2)
    assert sum(seen.server == "cdn" for seen in fake_hub.seen) <= 2 * IMPATIENT.attempts


def _slowly(seconds: float) -> Fault:
    def fault(request: Request) -> bool:
        if request.kind != "cdn":
            return False
        request.send_head(206, request.file_headers())
        for piece in request.pieces(1 << 19):
            request.put(piece)
            time.sleep(seconds)
        return True

    return fault


def _part(store: Store) -> dict[str, int]:
    """Bytes that the parts of interrupted pulls have, by folder."""
    found = {}
    for folder in store.work.glob(f"{PULL_PREFIX}*"):
        marks = (folder / "chunks").read_bytes()[64:]
        size = (folder / "data").stat().st_size
        found[folder.name] = sum(
            min(CHUNK_BYTES, size - index * CHUNK_BYTES) for index, mark in enumerate(marks) if mark
        )
    return found
