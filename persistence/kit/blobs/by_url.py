"""Opens blob storage by URL: `file:///folder`, or an object store such as `s3://bucket/prefix?region=…&endpoint=…`.

What the URL does not say, obstore reads from the environment under the providers' own names, such as AWS_ACCESS_KEY_ID.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from obstore import store
from obstore.exceptions import BaseError

from persistence.kit.blobs.blobs import Blobs
from persistence.kit.blobs.local_folder import LocalFolder
from persistence.kit.blobs.object_store import BucketBlobs

_store: Any = store  # Typed for each provider apart; which one it is, the URL says.

OBJECT_STORES = ("s3", "gs", "az")
CALL_SECONDS = 10.0
RETRIES = 2  # Within the time of a call: then whoever waits is told that the store is away.


def open_blobs(url: str, *, call_seconds: float = CALL_SECONDS) -> Blobs:
    """Nothing is opened before the first use. `call_seconds` is for each request to an object store. Raises: ValueError, saying what the URL must be."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path.strip("/"):
            raise ValueError("must name a folder from the root on, as in file:///var/lib/storegraph/files")
        return LocalFolder(Path(unquote(parts.path)))
    if parts.scheme not in OBJECT_STORES or not parts.netloc:
        raise ValueError(f"must begin with file:/// or name a bucket: {', '.join(f'{name}://bucket' for name in OBJECT_STORES)}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    # A store of one's own, as in tests and small installations, often speaks plain HTTP; its address says so.
    plain = {"allow_http": True} if options.get("endpoint", "").startswith("http://") else {}
    waits = {"timeout": timedelta(seconds=call_seconds), "connect_timeout": timedelta(seconds=call_seconds / 2)}
    retries = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=call_seconds)}
    address = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    try:
        return BucketBlobs(_store.from_url(address, client_options=plain | waits, config=options, retry_config=retries), call_seconds)
    except BaseError as error:
        raise ValueError(str(error).split("\n", 1)[0]) from error
