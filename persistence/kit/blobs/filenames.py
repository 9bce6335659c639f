"""Validates file names: safe to show, to send in a header and to save anywhere."""

from __future__ import annotations

import unicodedata

import regex

from persistence.kit.parsing.blank import INVISIBLE, is_blank

NAME_BYTES = 255  # The most that file systems take.
# With their look-alikes, as far as compatibility folding does not tell.
SEPARATORS = frozenset("/\\∕⁄⧸⟋╱⧵⟍⧹∖╲")  # noqa: RUF001 -- they stand here because they look alike
FORBIDDEN = frozenset('<>:"|?*')
DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"} | {f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"}
)
# A variation selector is in its place where it chooses the picture of an emoji, a Han character of a name or a Mongolian letter.
_HIDDEN = regex.compile(
    rf"[{INVISIBLE}--\p{{Variation_Selector}}]|(?<![\p{{Emoji}}\p{{Ideographic}}\p{{Mongolian}}])\p{{Variation_Selector}}", regex.VERSION1
)


def normalize(name: str) -> str:
    """One spelling of each name, so that two that look the same are the same."""
    return unicodedata.normalize("NFC", name)


def is_text(name: str) -> bool:
    """Whether every database takes it for text: it has no NUL and no half of a surrogate pair."""
    return "\0" not in name and not any("\ud800" <= char <= "\udfff" for char in name)


def filename_error(name: str) -> str | None:
    """Why a normalised name is not accepted: what it must be; None for a good one."""
    folded = unicodedata.normalize("NFKC", name)
    if is_blank(name):
        return "must not be blank"
    if any("\ud800" <= char <= "\udfff" for char in name):
        return "must be valid Unicode"
    if len(name.encode()) > NAME_BYTES:
        return f"must have at most {NAME_BYTES} bytes, not {len(name.encode())}"
    if SEPARATORS & {*name, *folded}:
        return "must be a name, not a path: it must not contain slashes, backslashes or what looks like them"
    if _HIDDEN.search(name):
        return "must not contain control characters or invisible ones"
    if FORBIDDEN & {*name, *folded}:
        return f"must not contain any of {' '.join(sorted(FORBIDDEN))}"
    if name != name.strip() or folded.startswith(".") or folded.endswith("."):
        return "must not begin or end with a dot or a space"
    if is_blank(name.split(".", 1)[0]):
        return "must not be blank before its first dot"
    if folded.split(".", 1)[0].rstrip().casefold() in DEVICES:
        return "must not be a name that Windows reserves for a device"
    return None
