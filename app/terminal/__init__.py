"""What may reach a terminal: every text that localq did not write itself passes here before it is shown.

Model output, names, metadata of files, templates, errors of a server: any of them may hold characters that a
terminal obeys (ECMA-48 control sequences), that reorder what a person reads (bidi overrides), or that nobody
sees (tags, zero-width characters). This package shows such characters instead of passing them on.

It is an allow-list of characters, not a filter of sequences. A terminal leaves its state "print what comes"
only on a character of C0, DEL or C1 (ECMA-48, 5.2 and 5.3), and of those none but ``\\n`` and ``\\t`` is
passed on. So no sequence has to be recognised: what follows a neutralised ESC is text, and a sequence that is
cut into chunks, left open, nested or malformed is harmless for the same reason as a whole one. State between
chunks is kept only for what a reader would lose otherwise: ``\\r\\n``, halves of surrogate pairs, the
character before a joiner or a variation selector, and the number of combining marks on one base.

What is shown in place of a character:

- C0 controls and DEL: their control picture, ESC as ``␛``, NUL as ``␀`` (U+2400 to U+2421).
- anything else that is not passed on: ``<U+202E>``, the code point in at least four hexadecimal digits.
- combining marks beyond ``MARK_LIMIT`` on one base: ``<+992 marks>``.
- ``\\r\\n``: a line break. A ``\\r`` alone is shown: it would let text overwrite the line it stands on.

A text may spell ``<U+202E>`` itself. Markers are for eyes; they are no escape that could be read back.

Links (OSC 8) and other sequences are never made from foreign text. Nothing here reads markup either: to show
a text through rich or Textual, wrap it as :func:`as_text` does. A string given to their markup parsers could
style, link, or run an action (``[@click=...]``).

    >>> sanitize("\\x1b]52;c;cm0gLXJm\\x07 \\u202etxt.exe")
    '␛]52;c;cm0gLXJm␇ <U+202E>txt.exe'
"""

from __future__ import annotations

from app.terminal.output import as_text, json_line, write
from app.terminal.sanitizer import MARK_LIMIT, Sanitizer, sanitize

__all__ = ["MARK_LIMIT", "Sanitizer", "as_text", "json_line", "sanitize", "write"]
