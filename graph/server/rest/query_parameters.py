"""Reads query parameters of REST routes by the rules that all other doors have; an empty one is absent, as in GraphQL over HTTP."""

from __future__ import annotations

from starlette.datastructures import QueryParams

from persistence.kit.errors import InvalidInput
from persistence.kit.parsing import values as parsing

_SWITCH = {"0": False, "false": False, "1": True, "true": True}


class Parameters:
    """Each method raises InvalidInput."""

    def __init__(self, values: QueryParams) -> None:
        self._values = values

    def text(self, name: str) -> str | None:
        values = self._values.getlist(name)
        if len(values) > 1:
            raise InvalidInput.at(name, "must be given once")
        return (values or [""])[0] or None

    def whole_number(self, name: str, *, least: int = 0) -> int | None:
        text = self.text(name)
        try:
            return None if text is None else parsing.whole_between(text, least)
        except parsing.BadValue as error:
            raise InvalidInput.at(name, str(error)) from error

    def switch(self, name: str) -> bool:
        text = self.text(name)
        if text is not None and text not in _SWITCH:
            raise InvalidInput.at(name, "must be 1 or 0")
        return text is not None and _SWITCH[text]
