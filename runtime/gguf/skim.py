"""The first keys of a GGUF: what its hyperparameters are, when a whole header would cost too much to read."""

from __future__ import annotations

from contextlib import suppress

from runtime.gguf.magic import read_version
from runtime.gguf.metadata import RawMetadata, read_metadata
from runtime.gguf.source import Source


class Enough(Exception):
    """A source has given as much as it will."""


def skim_gguf(source: Source) -> RawMetadata:
    """The keys before the one at which ``source`` raises :class:`Enough`; all of them, if it never does.

    What writers of GGUF put first are the hyperparameters, and the vocabulary after them. Good for estimates
    only: nothing is checked that needs the rest. Raises :class:`runtime.errors.GgufError`.
    """
    read_version(source)
    source.u64("the number of tensors")
    count = source.u64("the number of keys")
    raw = RawMetadata()
    with suppress(Enough):
        read_metadata(source, count, raw)
    return raw
