"""Relay global ids: base64 of `Item:42`, and the types that `node` resolves. Source: GraphQL Global Object Identification (Relay)."""

import binascii
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, ClassVar, Self, TypeVar

import strawberry

from graph.kit.context import Info
from persistence.kit.database.database import Batch
from persistence.kit.errors import NotFound

T = TypeVar("T", bound=type)
ID_BOUND = 2**63  # Ids in the tables have 64 bits.
GLOBAL_ID_LENGTH = 100  # Characters.
_PLAIN = re.compile(rb"(\w+):([1-9][0-9]*)")  # What stands in base64: a type's name and a row's id.


@strawberry.interface(description="An object with a global id, by which `node` finds it again.")
class Node:
    """Objects of entities hold their row; `opened` opens their private fields to whoever asks."""

    id: strawberry.ID = strawberry.field(description="Opaque and globally unique.")
    row: strawberry.Private[Any] = None
    opened: strawberry.Private[bool] = False
    values_of: ClassVar[Callable[[Any], dict[str, Any]]]
    """What the plain fields are of a row: see `graph.kit.entity`."""

    @classmethod
    def of(cls, row: Any, *, opened: bool = False) -> Self:
        return cls(**cls.values_of(row), row=row, opened=opened)


@dataclass(frozen=True)
class NodeType:
    """How `node` finds objects of one type: a batch load, and what is made of a row; None for a row that the viewer may not see."""

    batch: Batch[int, Any]
    of: Callable[[Info, Any], Any | Awaitable[Any]]


_node_types: dict[str, NodeType] = {}


def node_type(batch: Batch[int, Any], of: Callable[[Info, Any], Any | Awaitable[Any]]) -> Callable[[T], T]:
    """Declare that `node` finds objects of this type."""

    def register(cls: T) -> T:
        _node_types[cls.__name__] = NodeType(batch, of)
        return cls

    return register


def is_refetched(kind: str) -> bool:
    """Whether `node` finds objects of a type of this name."""
    return kind in _node_types


def global_id(kind: str, id_: int) -> strawberry.ID:
    return strawberry.ID(binascii.b2a_base64(f"{kind}:{id_}".encode(), newline=False).decode())


def split(global_id_: str) -> tuple[str, int] | None:
    """The type's name and the row's id, or None for anything that is not a global id."""
    if len(global_id_) > GLOBAL_ID_LENGTH:
        return None
    try:
        plain = binascii.a2b_base64(global_id_, strict_mode=True)
    except ValueError:
        return None
    found = _PLAIN.fullmatch(plain)
    if found is None or binascii.b2a_base64(plain, newline=False).decode() != global_id_:
        return None
    id_ = int(found[2])
    return (found[1].decode(), id_) if id_ < ID_BOUND else None


def row_id(kind: str, global_id_: str) -> int | None:
    """The row's id, or None if the global id is another type's or no id at all."""
    match split(global_id_):
        case (found, id_) if found == kind:
            return id_
        case _:
            return None


def required_row_id(kind: str, global_id_: str) -> int:
    """Raises: NotFound, for garbage too: to a client it is the same."""
    id_ = row_id(kind, global_id_)
    if id_ is None:
        raise NotFound(kind.lower())
    return id_


async def resolve_node(info: Info, global_id_: str) -> Any | None:
    match split(global_id_):
        case (name, id_) if name in _node_types:
            kind = _node_types[name]
            row = await info.context.load(kind.batch, id_)
            seen = None if row is None else kind.of(info, row)
            return await seen if isawaitable(seen) else seen
        case _:
            return None
