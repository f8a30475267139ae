"""What the GGUF says of the model as such: its name, its licence, where it comes from."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import gguf
from gguf import Keys, LlamaFileType

from quant.convert.json_file import read_text
from quant.convert.recipe import Recipe, elements
from quant.errors import CheckpointDamaged
from quant.files.layout import Key
from runtime.gguf.values import ValueType

FILE_TYPES: Final = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "BF16": LlamaFileType.MOSTLY_BF16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
}
QUANTIZATION_VERSION: Final = 2
ORIGIN: Final = "localq.origin."
"""Keys that a quantization of the file keeps."""
_CARD_BYTES: Final = 1 << 20
_FRONT: Final = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(\n|\Z)", re.DOTALL)
_PHI3: Final = re.compile(r"(phi)-?3", re.IGNORECASE)
_PHI3_TOKENS: Final = frozenset({"</s>", "<unk>", "<s>", "<|endoftext|>"})
_ENTRY: Final = re.compile(r"(license|license_name|license_link):[ \t]*(\S[^\n]*)")


@dataclass(frozen=True)
class Provenance:
    """Where a repository comes from, as far as it is known."""

    repository: str | None = None
    """As ``org/name``."""
    commit: str | None = None
    url: str | None = None
    """Of the repository."""
    license: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Hex digests of its files, by name; of files that are not named, none is written."""


def general_keys(
    folder: Path,
    architecture: str,
    recipes: Sequence[Recipe],
    provenance: Provenance,
    title: str,
) -> list[Key]:
    """The ``general.*`` keys, and the origin's. Raises :class:`CheckpointDamaged` for a card that is no
    text."""
    card = model_card(folder)
    keys = [
        Key(Keys.General.ARCHITECTURE, ValueType.STRING, architecture),
        Key(Keys.General.TYPE, ValueType.STRING, "model"),
        Key(Keys.General.NAME, ValueType.STRING, printable(title)),
        Key(Keys.General.SIZE_LABEL, ValueType.STRING, _size_label(recipes)),
        Key(Keys.General.FILE_TYPE, ValueType.U32, int(FILE_TYPES[commonest(recipes)])),
        Key(Keys.General.QUANTIZATION_VERSION, ValueType.U32, QUANTIZATION_VERSION),
    ]
    for template, value in (
        (Keys.General.LICENSE, provenance.license or card.get("license")),
        (Keys.General.LICENSE_NAME, card.get("license_name")),
        (Keys.General.LICENSE_LINK, card.get("license_link")),
        (Keys.General.SOURCE_URL, provenance.url),
        (Keys.General.SOURCE_REPO_URL, provenance.url),
        (ORIGIN + "repository", provenance.repository),
        (ORIGIN + "commit", provenance.commit),
    ):
        if value:
            keys.append(Key(template, ValueType.STRING, value))
    if provenance.sha256:
        names = sorted(provenance.sha256)
        digests = [provenance.sha256[file] for file in names]
        keys.append(Key(ORIGIN + "files", ValueType.STRING, names, array=True))
        keys.append(Key(ORIGIN + "sha256", ValueType.STRING, digests, array=True))
    return keys


def title_of(folder: Path, provenance: Provenance) -> str:
    """What the model is called where nobody says it: its repository, or its folder."""
    return (provenance.repository or folder.resolve().name).rpartition("/")[2]


def loadable(title: str, tokens: Collection[str]) -> str:
    """``title``, changed where llama.cpp would take it for that of a Phi 3, which this one is not.

    It looks for four tokens by that name, and loads no model that lacks one of them.
    """
    if _PHI3_TOKENS.issubset(tokens):
        return title
    return _PHI3.sub(r"\1 3", title)


def commonest(recipes: Sequence[Recipe]) -> str:
    """The type that most weights have."""
    weights = dict.fromkeys(FILE_TYPES, 0)
    for recipe, count in elements(recipes):
        weights[recipe.dtype] += count
    return max(weights, key=lambda dtype: weights[dtype])


def model_card(folder: Path) -> dict[str, str]:
    """What README.md says of the licence, in the lines between two ``---`` at its beginning."""
    try:
        text = read_text(folder / "README.md", _CARD_BYTES)
    except CheckpointDamaged:
        return {}  # a card is for people: one that is missing, long or torn does no harm
    front = _FRONT.match(text)
    entries = _ENTRY.findall(front[1]) if front else []
    return {key: printable(value.strip().strip("'\"")) for key, value in entries}


def printable(text: str) -> str:
    """``text`` without what no line of text holds."""
    return "".join(character for character in text if character.isprintable())[:200]


def _size_label(recipes: Sequence[Recipe]) -> str:
    """As ``1.1B``, or ``8x7B`` where there are experts."""
    total = shared = expert = count = 0
    for recipe, weights in elements(recipes):
        total += weights
        if len(recipe.pieces) > 1:
            count = len(recipe.pieces)
            expert += weights // count
        else:
            shared += weights
    return str(gguf.size_label(total, shared, expert, count))
