"""Names of files as they may stand in a document."""

from __future__ import annotations


def plain_name(name: str) -> str:
    """``name`` as valid Unicode: bytes of it that are no UTF-8 are written as ``\\udcff``."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
