"""Safetensors files and repositories that nobody may open: each must be refused by its rule, fast and small.

    for case in hostile_files(): case.write(folder)

The ids are those of the list H; a file that once crashed something stays here for ever.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

WEIGHT = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
DATA = bytes(16)


@dataclass(frozen=True)
class HostileFile:
    """A model.safetensors, and the rule that refuses it."""

    id: str
    rule: str
    header: bytes
    data: bytes = DATA
    length: int | None = None
    """What the file claims of its header; None is the truth."""

    def write(self, folder: Path) -> Path:
        path = folder / "model.safetensors"
        claimed = len(self.header) if self.length is None else self.length
        path.write_bytes(claimed.to_bytes(8, "little") + self.header + self.data)
        return path


def header(**tensors: Any) -> bytes:
    return json.dumps(tensors).encode()


def entry(**changed: Any) -> dict[str, Any]:
    return WEIGHT | changed


def hostile_files() -> list[HostileFile]:
    """All of them, H01 to H17 and what belongs beside them."""
    return [
        HostileFile("H01-length-2^63", "header-too-long", header(a=WEIGHT), length=1 << 63),
        HostileFile("H01-length-past-the-end", "truncated", header(a=WEIGHT), length=1 << 16),
        HostileFile("H02-length-over-the-limit", "header-too-long", header(a=WEIGHT), length=100_000_001),
        HostileFile("H03-not-utf8", "not-utf8", b'{"a\xff": {}}'),
        HostileFile("H04-overlap", "overlap", header(a=WEIGHT, b=entry(data_offsets=[8, 24])), bytes(24)),
        HostileFile("H04-the-same-place-twice", "overlap", header(a=WEIGHT, b=WEIGHT)),
        HostileFile("H05-hole", "hole", header(a=WEIGHT, b=entry(data_offsets=[20, 36])), bytes(36)),
        HostileFile("H05-hole-at-the-start", "hole", header(a=entry(data_offsets=[4, 20])), bytes(20)),
        HostileFile("H06-size-of-another-shape", "bad-size", header(a=entry(shape=[2, 3]))),
        HostileFile("H06-end-before-begin", "bad-size", header(a=entry(data_offsets=[16, 0]))),
        HostileFile("H07-shape-overflows", "bad-size", header(a=entry(shape=[1 << 62, 1 << 62]))),
        HostileFile("H07-dimension-of-2^64", "wrong-type", header(a=entry(shape=[1 << 64]))),
        HostileFile("H08-zip-behind-the-data", "hole", header(a=WEIGHT), DATA + _zip()),
        HostileFile("H09-deep", "too-deep", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        HostileFile("H10-negative-offset", "wrong-type", header(a=entry(data_offsets=[-16, 0]))),
        HostileFile("H11-duplicate-tensor", "duplicate-key", _twice("a", header(a=WEIGHT))),
        HostileFile("H11-duplicate-field", "duplicate-key", header(a=WEIGHT).replace(b'"dtype"', b'"shape"')),
        HostileFile("H12-empty-tensors", "too-many-tensors", _empty(120_000), b""),
        HostileFile("H12-one-empty-tensor", "empty-tensor", header(a=entry(shape=[0], data_offsets=[0, 0]))),
        *(
            HostileFile(f"H13-name-{number}", "bad-name", json.dumps({name: WEIGHT}).encode())
            for number, name in enumerate(("../../x", "a..b", "\x1b[31m", "", "x" * 257, "a\nb", "é", "a b"))
        ),
        HostileFile("H16-nan", "bad-number", header(a=entry(shape=[float("nan")]))),
        HostileFile("H16-1e999", "wrong-type", header(a=WEIGHT).replace(b"[2, 2]", b"[1e999]")),
        HostileFile("H16-fraction", "wrong-type", header(a=entry(shape=[1.5]))),
        HostileFile("H16-true", "wrong-type", header(a=entry(shape=[True, 4]))),
        HostileFile("H16-digits", "bad-json", b'{"a":' + b"9" * 100_000 + b"}"),
        HostileFile("H17-unknown-type", "bad-dtype", header(a=entry(dtype="F8_E8M0"))),
        HostileFile("H17-no-type", "bad-dtype", header(a=entry(dtype=None))),
        HostileFile("not-an-object", "wrong-type", b"[1, 2]"),
        HostileFile("tensor-not-an-object", "wrong-type", header(a=1)),
        HostileFile("extra-field", "wrong-type", header(a=entry(url="http://x"))),
        HostileFile("too-many-dimensions", "wrong-type", header(a=entry(shape=[1] * 9))),
        HostileFile("cut-off", "truncated", header(a=WEIGHT), DATA[:-1]),
        HostileFile("empty-header", "bad-json", b"", b""),
    ]


def _zip() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", "cos\nsystem\n")
    return buffer.getvalue()


def _twice(name: str, whole: bytes) -> bytes:
    return whole[:-1] + b"," + whole[1:]


def _empty(count: int) -> bytes:
    return json.dumps(
        {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(count)}
    ).encode()


@dataclass(frozen=True)
class HostileIndex:
    """A model.safetensors.index.json beside one sound part, and the rule that refuses it."""

    id: str
    rule: str
    contents: Callable[[str], Any]
    """Of the index, by the part's name."""


def hostile_indexes() -> list[HostileIndex]:
    """H14 and H15: indexes that look elsewhere, or do not go with their files."""
    outside = (
        *("../../etc/passwd", "/etc/passwd", "model/part.safetensors", "..", "", "a\0.safetensors"),
        "https://example.org/a.safetensors",
        7,
    )
    return [
        *(
            HostileIndex(f"H15-looks-at-{number}", "bad-name", partial(_looking, name))
            for number, name in enumerate(outside)
        ),
        HostileIndex("H15-missing-part", "part-missing", lambda _part: _map(a="other.safetensors")),
        HostileIndex("H14-tensor-that-is-not-there", "tensor-missing", lambda part: _map(a=part, b=part)),
        HostileIndex("no-map", "wrong-type", lambda _part: {"metadata": {}}),
        HostileIndex("empty-map", "wrong-type", lambda _part: {"weight_map": {}}),
        HostileIndex("map-is-a-list", "wrong-type", lambda part: {"weight_map": [part]}),
        HostileIndex("no-object", "wrong-type", lambda _part: []),
    ]


def _looking(file: Any, _part: str) -> dict[str, Any]:
    return _map(a=file)


def _map(**files: Any) -> dict[str, Any]:
    return {"weight_map": files}
