"""Detects a file's content type from its name and its first bytes together: neither alone is trusted."""

from __future__ import annotations

import codecs

UNKNOWN = "application/octet-stream"

# What the first bytes must hold, as (offset, bytes); one of the alternatives is enough.
_ZIP = (((0, b"PK\x03\x04"),), ((0, b"PK\x05\x06"),))
_SIGNATURES: dict[str, tuple[tuple[tuple[int, bytes], ...], ...]] = {
    "image/png": (((0, b"\x89PNG\r\n\x1a\n"),),),
    "image/jpeg": (((0, b"\xff\xd8\xff"),),),
    "image/gif": (((0, b"GIF87a"),), ((0, b"GIF89a"),)),
    "image/webp": (((0, b"RIFF"), (8, b"WEBP")),),
    "image/avif": (((4, b"ftypavif"),), ((4, b"ftypavis"),)),
    "image/bmp": (((0, b"BM"),),),
    "image/tiff": (((0, b"II*\x00"),), ((0, b"MM\x00*"),)),
    "image/vnd.microsoft.icon": (((0, b"\x00\x00\x01\x00"),),),
    "application/pdf": (((0, b"%PDF-"),),),
    "application/zip": _ZIP,
    "application/gzip": (((0, b"\x1f\x8b"),),),
    "application/zstd": (((0, b"\x28\xb5\x2f\xfd"),),),
    "application/x-7z-compressed": (((0, b"7z\xbc\xaf\x27\x1c"),),),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": _ZIP,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": _ZIP,
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": _ZIP,
    "application/vnd.oasis.opendocument.text": _ZIP,
    "application/vnd.oasis.opendocument.spreadsheet": _ZIP,
    "application/epub+zip": _ZIP,
    "audio/mpeg": (((0, b"ID3"),), ((0, b"\xff\xfb"),), ((0, b"\xff\xf3"),), ((0, b"\xff\xf2"),)),
    "audio/ogg": (((0, b"OggS"),),),
    "audio/flac": (((0, b"fLaC"),),),
    "audio/wav": (((0, b"RIFF"), (8, b"WAVE")),),
    "audio/mp4": (((4, b"ftyp"),),),
    "video/mp4": (((4, b"ftyp"),),),
    "video/webm": (((0, b"\x1a\x45\xdf\xa3"),),),
    "font/woff2": (((0, b"wOF2"),),),
}
_TEXTS = {
    "text/plain": ("txt", "log", "md", "rst", "yaml", "yml", "toml", "ini", "sql", "py", "ts"),
    "text/csv": ("csv",),
    "text/tab-separated-values": ("tsv",),
    "text/html": ("html", "htm"),
    "text/css": ("css",),
    "text/javascript": ("js", "mjs"),
    "application/json": ("json",),
    "application/x-ndjson": ("jsonl", "ndjson"),
    "application/xml": ("xml",),
    "image/svg+xml": ("svg",),
}
_BY_EXTENSION = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "ico": "image/vnd.microsoft.icon",
    "pdf": "application/pdf",
    "zip": "application/zip",
    "gz": "application/gzip",
    "tgz": "application/gzip",
    "zst": "application/zstd",
    "7z": "application/x-7z-compressed",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "odt": "application/vnd.oasis.opendocument.text",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "epub": "application/epub+zip",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "m4a": "audio/mp4",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "woff2": "font/woff2",
} | {extension: kind for kind, extensions in _TEXTS.items() for extension in extensions}


def content_type(filename: str, head: bytes) -> str:
    """The type that the name claims, if the first bytes bear it out; else UNKNOWN, which no program opens by itself."""
    claimed = _BY_EXTENSION.get(filename.rpartition(".")[2].casefold(), UNKNOWN)
    if claimed in _TEXTS:
        return claimed if is_text(head) else UNKNOWN
    return claimed if any(_holds(head, signature) for signature in _SIGNATURES.get(claimed, ())) else UNKNOWN


def is_text(head: bytes) -> bool:
    """UTF-8 without control characters, as far as the first bytes tell; they may end within a character."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not any(char < " " and char not in "\t\n\r\f\x1b" for char in text)


def _holds(head: bytes, signature: tuple[tuple[int, bytes], ...]) -> bool:
    return all(head.startswith(expected, offset) for offset, expected in signature)
