"""Copying by asking the terminal (OSC 52), so that it works over ssh too. Whether it did, nobody says."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

MOST_BYTES: Final = 74_994
"""Of the encoded text: what xterm takes; others take more, a few less."""
_SCREEN_CHUNK: Final = 512


def copying(text: str, environ: Mapping[str, str]) -> str:
    """The control sequences that copy ``text``; empty where it is too long for them.

    Inside of tmux and screen also wrapped for the terminal around them: tmux takes them itself only if
    ``set-clipboard`` is on, and passes them on only with ``allow-passthrough``.
    """
    encoded = base64.b64encode(text.encode("utf-8", "replace")).decode("ascii")
    if len(encoded) > MOST_BYTES:
        return ""
    plain = f"\x1b]52;c;{encoded}\x07"
    if environ.get("TMUX"):
        return plain + "\x1bPtmux;" + plain.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    if environ.get("STY"):
        pieces = (plain[at : at + _SCREEN_CHUNK] for at in range(0, len(plain), _SCREEN_CHUNK))
        return "".join(f"\x1bP{piece}\x1b\\" for piece in pieces)
    return plain
