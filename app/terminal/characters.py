"""Which characters a terminal may get: by Unicode's categories, and for invisible ones by what stands before.

Letters, numbers, punctuation, symbols and spaces pass. Combining marks pass up to a limit. Characters without
a look of their own pass only where a script or an emoji needs them (``NEEDS``). The rest is shown as a
marker: controls, bidi and other format characters, surrogates, private use, and unassigned code points, for
nobody can say yet whether those will be invisible or reorder text. Exempt are the ranges that Unicode
reserves for pictographs and ideographs: what comes there is visible, and new emoji come every year, before a
new Python.

Sources: Unicode 14 to 16, UAX #44 (General_Category, Default_Ignorable_Code_Point), UTS #51 (emoji sequences,
Extended_Pictographic), UTS #37 and StandardizedVariants.txt (variation), chapters 9 to 16 (joiners).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cache
from unicodedata import category


class CodePoints:
    """A fixed set of characters, written as hexadecimal code points and ranges: ``"A9 2194-2199"``."""

    def __init__(self, *ranges: str) -> None:
        edges: list[int] = []
        for item in " ".join(ranges).split():
            first, _, last = item.partition("-")
            edges += (int(first, 16), int(last or first, 16) + 1)
        self._edges = sorted(edges)

    def __contains__(self, char: str) -> bool:
        """An odd number of edges at or below a code point: it lies inside a range."""
        return bisect_right(self._edges, ord(char)) & 1 == 1

    def pattern(self) -> str:
        """The set as it stands inside the brackets of a regular expression."""
        pairs = zip(self._edges[::2], self._edges[1::2], strict=True)
        return "".join(f"\\U{first:08x}-\\U{beyond - 1:08x}" for first, beyond in pairs)


PLAIN = CodePoints(
    "9-A 20-7E A0-AC AE-2FF 370-373 376-377 37A-37D 388-38A 38E-3A1 3A3-482 48A-52F 531-556 559-58A 5D0-5EA"
    " 5F0-5F4 60B-60F 61D-64A 660-66F 671-6D5 6EE-70D 712-72F 904-939 93D 958-961 964-980 E01-E30 E32-E33"
    " E3F-E46 E4F-E5B 10D0-10FF 1100-115E 1161-11FF 1E00-1EFF 2000-200A 2010-2027 202F-205F 2070-2071"
    " 2074-208E 20A0-20C0 2100-218B 2190-2426 2440-244A 2460-2B73 2C60-2CEE 3000-3029 3030-303F 3041-3096"
    " 309B-30FF 3105-312F 3131-3163 3190-31E3 31F0-321E 3220-A48C AC00-D7A3 FF01-FF9F FFFC-FFFD 1F300-1F6D7"
    " 1F900-1FA53 20000-2A6DF"
)
"""Fine anywhere: in Unicode since version 14, visible, no combining marks. Not all such, only usual ones."""

_PICTOGRAPHS = (
    "A9 AE 203C 2049 2122 2139 2194-2199 21A9-21AA 231A-231B 2328 2388 23CF 23E9-23F3 23F8-23FA 24C2"
    " 25AA-25AB 25B6 25C0 25FB-25FE 2600-2605 2607-2612 2614-2685 2690-2705 2708-2712 2714 2716 271D 2721"
    " 2728 2733-2734 2744 2747 274C 274E 2753-2755 2757 2763-2767 2795-2797 27A1 27B0 27BF 2934-2935"
    " 2B05-2B07 2B1B-2B1C 2B50 2B55 3030 303D 3297 3299 1F000-1F0FF 1F10D-1F10F 1F12F 1F16C-1F171"
    " 1F17E-1F17F 1F18E 1F191-1F19A 1F1AD-1F1E5 1F201-1F20F 1F21A 1F22F 1F232-1F23A 1F23C-1F23F 1F249-1F3FA"
    " 1F400-1F53D 1F546-1F64F 1F680-1F6FF 1F774-1F77F 1F7D5-1F7FF 1F80C-1F80F 1F848-1F84F 1F85A-1F85F"
    " 1F888-1F88F 1F8AE-1F8FF 1F90C-1F93A 1F93C-1F945 1F947-1FAFF 1FC00-1FFFD"
)
_IDEOGRAPHIC_PLANES = "20000-2FFFD 30000-3FFFD"
_IDEOGRAPHS = f"3400-4DBF 4E00-9FFF F900-FAFF {_IDEOGRAPHIC_PLANES}"

PICTOGRAPHS = CodePoints(_PICTOGRAPHS)
"""Extended_Pictographic: emoji, and what is reserved for them."""
BEFORE_EMOJI_ZWJ = CodePoints(_PICTOGRAPHS, "FE0F 1F3FB-1F3FF")
"""A pictograph, the selector that it may carry, or a skin tone."""
_RESERVED = CodePoints(_PICTOGRAPHS, _IDEOGRAPHIC_PLANES)

ZWJ, VS16, BLACK_FLAG, KEYCAP = "\u200d", "\ufe0f", "\U0001f3f4", "\u20e3"
KEYCAP_BASES = "#*0123456789"
FLAG_TAGS = tuple(
    "".join(chr(0xE0000 + ord(char)) for char in region + "\x7f") for region in ("gbeng", "gbsct", "gbwls")
)
"""The tags after a black flag that make England's, Scotland's and Wales's. Others could spell hidden text."""

_JOINING = CodePoints(
    "620-74F 750-77F 7CA-7F5 840-85B 860-DFF 1000-109F 1780-17D3 1820-18AA 1B00-1C4F A8E0-A8FF A980-A9DF"
    " 10D00-10D3F 11000-110CF 11100-1183F 11900-11AAF 11C00-11DFF 1E900-1E95F"
)
_UNSPACED = CodePoints("E00-EFF 1000-109F 1780-17F9 1950-19DF 1A20-1AAD A9E0-A9FE AA60-AADF")
_VARIANTS = CodePoints(
    _IDEOGRAPHS, "30 1000-109F 2205-22FF 2A00-2AFF 3001-3002 A840-A877 AA60-AA7F FF01-FF1F"
)

NEEDS = {
    "\u200c": _JOINING,  # ZWNJ, in Persian words and before Indic half forms
    ZWJ: _JOINING,  # the same; ZWJ in emoji also needs the right character after it
    "\u200b": _UNSPACED,  # ZWSP, where a line may break in Khmer, Thai, Lao, Burmese
    "\u034f": CodePoints("591-5F2"),  # CGJ keeps two vowels of one letter in order in biblical Hebrew
    "\ufe0e": PICTOGRAPHS,
    VS16: PICTOGRAPHS,
    **dict.fromkeys("\ufe00\ufe01\ufe02", _VARIANTS),
    **dict.fromkeys(map(chr, range(0xE0100, 0xE01F0)), CodePoints(_IDEOGRAPHS)),
    **dict.fromkeys("\u180b\u180c\u180d\u180e\u180f", CodePoints("1820-18AA")),  # Mongolian letters' forms
}
"""Characters that nobody sees, and what must stand before each. No set holds one of them: one a base."""

MARK = "mark"
CONTEXT = "context"


def marker(char: str) -> str:
    """``␛`` for C0 and DEL, ``<U+202E>`` for any other character."""
    if char > "\x7f":
        return "<U+%04X>" % ord(char)  # noqa: UP031 (quicker than an f-string, and this is the hostile path)
    return "\u2421" if char == "\x7f" else chr(0x2400 + ord(char))


_FILLERS = "\u115f\u1160\u17b4\u17b5\u3164\uffa0\U0001d159"
_UNUSED_SELECTORS = "".join(map(chr, range(0xFE03, 0xFE0E)))
_PREPENDED_MARKS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
"""Prepended_Concatenation_Mark: format characters that are drawn, around the digits after them."""

_CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
_BY_NAME = {
    **{char: marker(char) for char in _CONTROLS + _FILLERS + _UNUSED_SELECTORS},
    **{char: char for char in "\n\t" + _PREPENDED_MARKS},
    **dict.fromkeys(["\r", *NEEDS, *"".join(FLAG_TAGS)], CONTEXT),
}
"""Characters of which their category says the wrong thing, or not enough; and controls, to be quick."""
_NEVER = frozenset(["Cc", "Cf", "Co", "Cs", "Zl", "Zp"])


_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def join_surrogates(text: str) -> str:
    """``text`` with each pair of surrogates as the character that it stands for; lone ones stay."""
    return _SURROGATE_PAIR.sub(_joined, text)


def _joined(pair: re.Match[str]) -> str:
    high, low = map(ord, pair.group())
    return chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00)


class Shown(dict[str, str]):
    """Character -> itself where it is fine, what is shown instead of it, ``MARK`` or ``CONTEXT``.

    Fills as it is asked, from any thread: an answer depends on the character alone. Remembers ``CAPACITY``
    answers at most and no markers, so that hostile text cannot fill the memory.
    """

    CAPACITY = 4096

    def __missing__(self, char: str) -> str:
        shown = _BY_NAME.get(char)
        if shown is None:
            kind = category(char)
            if kind in _NEVER or (kind == "Cn" and char not in _RESERVED):
                return marker(char)
            shown = MARK if kind[0] == "M" else char
        if len(self) >= self.CAPACITY:
            self.clear()
        self[char] = shown
        return shown


@cache
def unplain_runs() -> re.Pattern[str]:
    """Runs of characters that need a closer look. Compiled at the first text beyond ASCII: it takes 3 ms."""
    return re.compile(f"[^{PLAIN.pattern()}]+")
