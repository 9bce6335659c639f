"""Messages of the graphql-transport-ws protocol: parsing and encoding. Anything else closes the socket with 4400.

Source: graphql-ws PROTOCOL.md, "Message types" and "Invalid message".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

from graph.kit.errors import Refused
from graph.server.graphql import requests
from graph.server.graphql.requests import GraphQLRequest

CONNECTION_ACK = '{"type":"connection_ack"}'

# Kept as long as its operation runs, and repeated in every frame. Clients use UUIDs (36) or counters.
_ID_CHARACTERS = 128
# RFC 6455, section 5.5: a control frame carries 125 bytes, two of them the code.
_REASON_BYTES = 123
_OF_CLIENTS = frozenset({"connection_init", "ping", "pong", "subscribe", "complete"})
_OF_OPERATIONS = frozenset({"subscribe", "complete"})


class Closed(Exception):
    """The socket has to be closed with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        # Cut by bytes, and then without half a character: a longer reason would be our own protocol error.
        self.reason = reason.encode()[:_REASON_BYTES].decode(errors="ignore")


@dataclass(frozen=True, slots=True)
class Message:
    """A client's message; `id` is empty where the type has none."""

    type: str
    id: str
    payload: Mapping[str, Any] | None
    characters: int
    """Of the whole text."""

    def request(self) -> GraphQLRequest:
        """Raises: Closed 4400, if a `subscribe` asks for nothing."""
        try:
            return requests.from_json(self.payload)
        except requests.Malformed as error:
            raise Closed(4400, str(error)) from error


def message(value: object, characters: int) -> Message:
    """A message out of JSON of so many characters. Raises: Closed 4400."""
    if not isinstance(value, dict):
        raise Closed(4400, "A message must be a JSON object.")
    members = cast("dict[str, Any]", value)
    type_, payload = members.get("type"), members.get("payload")
    if not isinstance(type_, str) or type_ not in _OF_CLIENTS:
        raise Closed(4400, "The type of the message is unknown.")
    if payload is not None and not isinstance(payload, dict):
        raise Closed(4400, "The payload must be an object.")
    return Message(type_, _id(members) if type_ in _OF_OPERATIONS else "", cast("dict[str, Any] | None", payload), characters)


def _id(message: dict[str, Any]) -> str:
    id_ = message.get("id")
    if not isinstance(id_, str) or not 0 < len(id_) <= _ID_CHARACTERS:
        raise Closed(4400, f"The id must be a string of 1 to {_ID_CHARACTERS} characters.")
    return id_


def opening(id_: str) -> str:
    """What every `next` of an operation begins with; the result's own JSON and a brace complete it, so nothing is encoded twice."""
    return f'{{"id":{_text(id_)},"type":"next","payload":'


def error(id_: str, refused: Refused) -> str:
    payload = orjson.dumps([each.formatted for each in refused.errors]).decode()
    return f'{{"id":{_text(id_)},"type":"error","payload":{payload}}}'


def complete(id_: str) -> str:
    return f'{{"id":{_text(id_)},"type":"complete"}}'


def ping(payload: Mapping[str, Any]) -> str:
    return f'{{"type":"ping","payload":{orjson.dumps(payload).decode()}}}'


def pong(payload: Mapping[str, Any] | None) -> str:
    return '{"type":"pong"}' if payload is None else f'{{"type":"pong","payload":{orjson.dumps(payload).decode()}}}'


def _text(text: str) -> str:
    return orjson.dumps(text).decode()
