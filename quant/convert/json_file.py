"""JSON that nobody vouches for: regular files of a bounded size, strict, and never a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from quant.errors import CheckpointDamaged
from runtime.errors import GgufError
from runtime.gguf.source import open_source

CONFIG_BYTES: Final = 4 << 20
"""Of config.json and the like. The longest real ones, with labels of classifiers, take some 200 KiB."""
INDEX_BYTES: Final = 32 << 20
"""Of model.safetensors.index.json: 100 bytes a tensor."""
TOKENIZER_BYTES: Final = 128 << 20
"""Of tokenizer.json: Gemma 3's takes 33 MiB, indented."""
TEXT_BYTES: Final = 1 << 20
"""Of a chat template or a model card; what follows is not read."""

Document = TypeVar("Document")


def read_bytes(path: Path, limit: int) -> bytes:
    """The contents of a regular file. Raises :class:`CheckpointDamaged` for any other, or a longer one."""
    try:
        with open_source(path) as source:
            if source.size > limit:
                raise CheckpointDamaged(
                    path, "too-long", f"has {source.size} bytes; at most {limit} are accepted"
                )
            return source.take(source.size, "the file")
    except GgufError as error:
        raise CheckpointDamaged(path, error.rule, error.reason.replace(", not a GGUF file", "")) from error


def read_text(path: Path, limit: int = TEXT_BYTES) -> str:
    """A text file. Raises :class:`CheckpointDamaged`."""
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointDamaged(path, "not-utf8", f"is not valid UTF-8 at its byte {error.start}") from None


def read_object(path: Path, limit: int = CONFIG_BYTES) -> dict[str, Any]:
    """A file that holds one JSON object. Raises :class:`CheckpointDamaged`."""
    document = parse(path, read_bytes(path, limit))
    if not isinstance(document, dict):
        raise CheckpointDamaged(path, "wrong-type", "is not a JSON object")
    return document


def read_optional(path: Path, limit: int = CONFIG_BYTES) -> dict[str, Any]:
    """As :func:`read_object`; empty where there is no such file."""
    return read_object(path, limit) if path.exists() else {}


def read_document(path: Path, kind: type[Document], limit: int) -> Document:
    """A file that holds a document of ``kind``. Raises :class:`CheckpointDamaged`."""
    try:
        return msgspec.json.decode(read_bytes(path, limit), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CheckpointDamaged(path, "bad-json", f"cannot be read: {error}") from None
    except RecursionError:
        raise CheckpointDamaged(path, "too-deep", "is nested too deeply") from None


def parse(path: Path, data: bytes, **options: Any) -> Any:
    """The JSON in ``data``, without numbers that are none. Raises :class:`CheckpointDamaged`."""

    def refuse(constant: str) -> NoReturn:
        raise CheckpointDamaged(path, "bad-number", f"holds the number {constant}, which JSON does not have")

    try:
        return json.loads(data.decode("utf-8"), parse_constant=refuse, **options)
    except UnicodeDecodeError as error:
        raise CheckpointDamaged(path, "not-utf8", f"is not valid UTF-8 at its byte {error.start}") from None
    except RecursionError:
        raise CheckpointDamaged(path, "too-deep", "is nested too deeply") from None
    except ValueError as error:
        raise CheckpointDamaged(path, "bad-json", f"is not JSON: {error}") from None
