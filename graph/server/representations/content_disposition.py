"""The Content-Disposition header with any file name. Source: RFC 6266, RFC 8187."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

# A browser shows these itself and can run nothing in them; everything else is only ever saved.
SHOWN = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"})


def disposition(filename: str, content_type: str = "") -> str:
    kind = "inline" if content_type in SHOWN else "attachment"
    plain = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    plain = "".join(char if char.isalnum() or char in " !#$&()+,-.;=@[]^_`{}~" else "_" for char in plain).strip()
    if plain == filename:
        return f'{kind}; filename="{plain}"'
    if not plain.strip(".") or (plain.startswith(".") and not filename.startswith(".")):  # Nothing is left before the ending.
        plain = f"file{plain}".rstrip(".")
    # The first is for clients that do not read the second.
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
