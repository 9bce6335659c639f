"""Blank text: text in which a reader sees nothing. One predicate for names, tags, passwords, filenames and whatever else must not be blank.

Beside white space it holds what Unicode calls default ignorable (zero-width characters, fillers, variation selectors), format characters, marks
that stand on no letter, and the few characters whose picture is an empty square.
"""

from __future__ import annotations

import regex

# U+2800 is the braille pattern without dots, U+1D159 a note without a head, U+13441 and U+13442 hieroglyphic spaces: visible by their
# properties, and empty in every font.
INVISIBLE = "\\p{Default_Ignorable_Code_Point}\\p{Cf}\\p{Cc}\\p{Zl}\\p{Zp}\u2800\U0001d159\U00013441\U00013442"
"""Inside a character class: what shows nothing and is no space. Source: UAX #44, Default_Ignorable_Code_Point."""
_INVISIBLE = regex.compile(f"[{INVISIBLE}]")
_VISIBLE = regex.compile(rf"[^{INVISIBLE}\p{{White_Space}}\p{{M}}]")


def is_blank(text: str) -> bool:
    return _VISIBLE.search(text) is None


def has_invisible(text: str) -> bool:
    return _INVISIBLE.search(text) is not None


def without_invisible(text: str) -> str:
    return _INVISIBLE.sub("", text)


def visible_length(text: str) -> int:
    """Characters without the invisible ones and without white space at the ends: what a least length means."""
    return len(without_invisible(text).strip())
