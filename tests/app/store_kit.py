"""Small valid GGUF files, written without any library, and what the store's tests share."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from app.store import Problem, Store, disk

_U16, _U32, _I32, _F32, _STRING, _ARRAY = 2, 4, 5, 6, 8, 9
_LAYOUT = {_U16: "<H", _U32: "<I", _I32: "<i", _F32: "<f"}
PRIMITIVES = ("make_directory", "create", "write", "protect", "sync", "sync_directory", "rename", "unlink")


def gguf_bytes(
    seed: int = 0, *, name: str = "Tiny", rows: int = 4, more: Mapping[str, tuple[int, Any]] | None = None
) -> bytes:
    """One llama layer's worth of keys and two F32 tensors; ``more`` are further typed keys."""
    keys: dict[str, tuple[int, Any]] = {
        "general.architecture": (_STRING, "llama"),
        "general.name": (_STRING, name),
        "general.license": (_STRING, "mit"),
        "general.file_type": (_U32, 0),
        "llama.block_count": (_U32, 1),
        "llama.context_length": (_U32, 128),
        "llama.embedding_length": (_U32, 32),
        "llama.feed_forward_length": (_U32, 64),
        "llama.attention.head_count": (_U32, 2),
        "llama.attention.head_count_kv": (_U32, 2),
        "llama.attention.layer_norm_rms_epsilon": (_F32, 1e-5),
        "llama.rope.dimension_count": (_U32, 16),
        "tokenizer.ggml.model": (_STRING, "gpt2"),
        "tokenizer.ggml.pre": (_STRING, "default"),
        "tokenizer.ggml.tokens": (_ARRAY, (_STRING, [f"t{index}" for index in range(rows)])),
        "tokenizer.ggml.token_type": (_ARRAY, (_I32, [1] * rows)),
        "tokenizer.ggml.merges": (_ARRAY, (_STRING, [])),
        "tokenizer.ggml.bos_token_id": (_U32, 0),
        "tokenizer.ggml.eos_token_id": (_U32, 1),
    }
    keys.update(more or {})
    return _assemble(keys, {"token_embd.weight": (32, rows), "output_norm.weight": (32,)}, seed)


def mmproj_bytes(seed: int = 0) -> bytes:
    """The header of a vision model's projector."""
    keys = {
        "general.architecture": (_STRING, "clip"),
        "general.name": (_STRING, "Eyes"),
        "clip.has_vision_encoder": (7, True),
        "clip.projector_type": (_STRING, "mlp"),
    }
    return _assemble(keys, {"mm.0.weight": (32, 4)}, seed)


def split_bytes(count: int, seed: int = 0) -> list[bytes]:
    """The parts of one model, as llama-gguf-split writes them: all keys in the first, one tensor in each."""
    parts = []
    for number in range(count):
        split: dict[str, tuple[int, Any]] = {
            "split.no": (_U16, number),
            "split.count": (_U16, count),
            "split.tensors.count": (_I32, count + 1),
        }
        if number == 0:
            parts.append(gguf_bytes(seed, more=split))
        else:
            parts.append(_assemble(split, {f"blk.{number}.attn_norm.weight": (32,)}, seed))
    return parts


def write_split(folder: Path, count: int = 3, stem: str = "big", seed: int = 0) -> list[Path]:
    """A split model in ``folder``; returns its parts' paths in order."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number, data in enumerate(split_bytes(count, seed), 1):
        paths.append(folder / f"{stem}-{number:05}-of-{count:05}.gguf")
        paths[-1].write_bytes(data)
    return paths


def write_gguf(path: Path, seed: int = 0, **more: Any) -> Path:
    """A model of ``seed``'s weights at ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gguf_bytes(seed, **more))
    return path


def overwrite(path: Path, data: bytes) -> None:
    """Damages a file of the store, which is read-only."""
    path.chmod(0o644)
    path.write_bytes(data)


def damage(problems: Iterable[Problem]) -> list[Problem]:
    """Without what a killed process may leave behind."""
    return [problem for problem in problems if not problem.harmless]


def files_in(folder: Path) -> set[str]:
    """The files below ``folder``, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def contents(store: Store) -> dict[str, bytes]:
    """Every model's name and the bytes of its files, one after the other."""
    return {model.name: b"".join(path.read_bytes() for path in store.paths(model)) for model in store.list()}


def wrap_disk(
    around: Callable[[str, Callable[..., Any], tuple[Any, ...]], Any], patch: pytest.MonkeyPatch | None = None
) -> None:
    """Lets ``around(name, primitive, arguments)`` do what the store asks of the disk."""
    for name in PRIMITIVES:
        primitive = getattr(disk, name)

        def wrapped(*args: Any, _name: str = name, _primitive: Any = primitive, **kwargs: Any) -> Any:
            return around(_name, lambda *given: _primitive(*given, **kwargs), args)

        if patch is None:
            setattr(disk, name, wrapped)
        else:
            patch.setattr(disk, name, wrapped)


@contextmanager
def memory_folder(otherwise: Path) -> Iterator[Path]:
    """A folder where fsync costs nothing, for tests that make many stores; where there is none, on disk."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else otherwise) as folder:
        yield Path(folder)


def impatient(home: Path) -> Store:
    """A store that waits for no lock."""
    return Store(home, lock_seconds=0.0)


def _assemble(keys: Mapping[str, tuple[int, Any]], shapes: Mapping[str, tuple[int, ...]], seed: int) -> bytes:
    header = [b"GGUF", struct.pack("<IQQ", 3, len(shapes), len(keys))]
    for key, (kind, value) in keys.items():
        header += [_string(key), struct.pack("<I", kind), _value(kind, value)]
    data = b""
    for name, shape in shapes.items():
        header += [_string(name), struct.pack("<I", len(shape)), struct.pack(f"<{len(shape)}Q", *shape)]
        header.append(struct.pack("<IQ", 0, len(data)))
        elements = 1
        for dimension in shape:
            elements *= dimension
        weights = Random(f"{seed} {name}")
        data += struct.pack(f"<{elements}f", *(weights.uniform(-1, 1) for _ in range(elements)))
    head = b"".join(header)
    return head + bytes(-len(head) % 32) + data


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _string(value)
    if kind == _ARRAY:
        element, values = value
        return struct.pack("<IQ", element, len(values)) + b"".join(_value(element, each) for each in values)
    if kind == 7:
        return struct.pack("<?", value)
    return struct.pack(_LAYOUT[kind], value)
