"""Masks unexpected errors around an operation: the client gets its request id, the log everything else."""

from __future__ import annotations

from types import TracebackType

import structlog

from graph.kit.auth import Caller
from graph.kit.errors import Refused, internal, out_of_service
from persistence.kit.transient_errors import is_transient

log = structlog.get_logger(__name__)


class MaskErrors:
    """A block that ends well or raises Refused. What breaks in a resolver is masked where its field is; this is for all around it."""

    __slots__ = ("_caller",)

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        if error is None or isinstance(error, Refused) or not isinstance(error, Exception):
            return
        if is_transient(error):
            raise out_of_service(error) from error
        log.error("unexpected error around an operation", request_id=self._caller.request_id, exc_info=error)
        raise Refused([internal(self._caller.request_id)]) from error
