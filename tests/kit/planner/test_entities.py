"""A declared entity is planned as its resolvers answer, or refused at start in words that say what to do."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
import strawberry
from graphql import GraphQLObjectType, GraphQLSchema
from strawberry.extensions import FieldExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types.field import StrawberryField

from graph.kit.auth import Scope
from graph.kit.cache_control import reads
from graph.kit.connections import Connection
from graph.kit.entity import declaration
from graph.kit.entity.declaration import average, check, computed, count, entity, entity_type, resolved, stored, to_many, to_one
from graph.kit.entity.roots import FindByGlobalId, ReadList, RunResolver
from graph.kit.entity.visibility import Visibility
from graph.kit.fields import RequiresScopes, query
from graph.kit.global_ids import Node
from graph.kit.limits.rate_limits import ADDRESS, RateLimitRule
from graph.kit.planner.planner import check_roots
from graph.kit.scalars import SCALARS
from graph.users.types import User
from persistence import users
from persistence.items import listing
from persistence.items import table as items
from persistence.kit.query.entity_list import EntityList
from persistence.kit.query.paging import PageArguments


class Colour(Enum):
    RED = "red"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test declares is gone after it."""
    for name in ("_types", "_classes"):
        monkeypatch.setattr(declaration, name, dict(getattr(declaration, name)))


def declared(**fields: tuple[Any, Any]) -> GraphQLSchema:
    """The schema of an entity `Thing` over the table of items, with these fields beside its id: their types and what declares them."""
    namespace: dict[str, Any] = {name: field for name, (_, field) in fields.items()}
    thing = type("Thing", (Node,), {"__annotations__": {name: kind for name, (kind, _) in fields.items()}, **namespace})
    made: Any = entity(items.ENTITY)(strawberry.type(thing))

    def resolve(self: Any) -> Any:
        return None

    resolve.__annotations__["return"] = made
    root: Any = strawberry.type(type("Query", (), {"thing": strawberry.field(resolver=resolve)}))
    return strawberry.Schema(root, config=StrawberryConfig(scalar_map=SCALARS))._schema  # pyright: ignore[reportPrivateUsage]


def plain(**options: Any) -> StrawberryField:
    return strawberry.field(description="", **options)


def whispered(self: Any) -> str:
    return self.row.name.lower()


GOOD: dict[str, tuple[Any, Any]] = {
    "name": (str, plain()),
    "description": (str | None, plain()),
    "price": (Decimal, plain()),
    "tags": (list[str], plain()),
    "stock": (int, stored("inventory", description="")),
    "shout": (str, computed("name", compute=str.upper, description="")),
    "whisper": (str, strawberry.field(resolver=whispered, metadata=resolved("name"))),
    "owner": (User | None, to_one("owner_id", users.ENTITY, description="")),
    "items": (int, count(listing.BY_OWNER, description="")),
    "stocked": (float | None, average(listing.BY_OWNER, "inventory", description="")),
    "cost": (Decimal | None, average(listing.BY_OWNER, "price", description="")),
}


def test_knows_where_each_field_comes_from() -> None:
    check(declared(**GOOD))
    thing = entity_type("Thing")
    assert thing
    kinds = {name: type(source).__name__ for name, source in thing.sources.items()}
    assert kinds == {
        "id": "StoredValue",
        "name": "StoredValue",
        "description": "StoredValue",
        "price": "StoredValue",
        "tags": "StoredValue",
        "stock": "StoredValue",
        "shout": "ComputedValue",
        "whisper": "ResolvedValue",
        "owner": "ToOne",
        "items": "Aggregated",
        "stocked": "Aggregated",
        "cost": "Aggregated",
    }


def test_leaves_resolvers_to_the_executor() -> None:
    def resolve(self: Any) -> str:
        return ""

    check(declared(**GOOD, more=(str, strawberry.field(resolver=resolve)), watched=(str, plain(extensions=[FieldExtension()]))))
    thing = entity_type("Thing")
    assert thing
    assert not {"more", "watched"} & set(thing.sources)


BAD: dict[str, tuple[Any, Any, str]] = {
    "a directive": (str, plain(directives=[RequiresScopes(scopes=[])]), "has a rule that a plan would leave out"),
    "no column": (str, stored("colour", description=""), "is no column"),
    "another type": (int, stored("name", description=""), "is Int!, and its column String"),
    "numbers": (list[int], stored("tags", description=""), r"is \[Int!\]!, and its column JSON"),
    "null": (str, stored("description", description=""), "must not be null, and its column may be"),
    "resolved of nothing": (str, strawberry.field(resolver=whispered, metadata=resolved("colour")), "names colour, which is no column"),
    "made of nothing": (str, computed("colour", compute=str, description=""), "names colour, which is no column"),
    "an edge that must be there": (
        User,
        to_one("owner_id", users.ENTITY, description=""),
        "is of another entity, or may be null where its column may not",
    ),
    "a list that may be null": (
        Connection[User] | None,
        to_many(listing.BY_OWNER, description=""),
        "is no connection of its entity",
    ),
    "an edge to another table": (
        User | None,
        to_one("owner_id", items.ENTITY, description=""),
        "is of another entity",
    ),
    "a number that may be null": (int | None, count(listing.BY_OWNER, description=""), "is Int, and its number Int!"),
    "a mean that must be there": (float, average(listing.BY_OWNER, "inventory", description=""), "is Float!, and its number Float"),
    "a mean of texts": (float | None, average(listing.BY_OWNER, "name", description=""), "is Float, and its number of a column of numbers"),
    "a list of another table": (
        Connection[User],
        to_many(listing.BY_OWNER, description=""),
        "is no connection of its entity",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses_a_field_that_a_plan_would_not_serve_as_its_resolver_does(name: str) -> None:
    kind, field, objection = BAD[name]
    schema = declared(field=(kind, field))
    with pytest.raises(TypeError, match=rf"Thing\.field {objection}.*: declare where it comes from, or write a resolver for it"):
        check(schema)


def shown(scope: Scope | tuple[Scope, ...] | None, visible: Visibility | None) -> GraphQLSchema:
    """The schema of a list of things that takes a scope, and of who finds a thing by its id."""
    made: Any = entity(items.ENTITY, visible=visible)(strawberry.type(type("Thing", (Node,), {})))

    async def resolve(root: Any, info: strawberry.Info) -> Any:
        return None

    resolve.__annotations__["return"] = Connection[made]
    roots: Any = strawberry.type(type("Query", (), {"things": query(scope=scope, description="")(resolve)}))
    return strawberry.Schema(roots, config=StrawberryConfig(scalar_map=SCALARS))._schema  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("scope", "visible", "needed"),
    [
        (Scope.AUDIT_READ, None, "the scope audit:read"),
        (Scope.AUDIT_READ, Visibility(Scope.FILES_READ), "the scope audit:read"),
        ((), None, "a token"),
    ],
)
def test_refuses_a_root_with_a_scope_whose_rows_are_found_without(scope: Any, visible: Visibility | None, needed: str) -> None:
    with pytest.raises(
        TypeError, match=rf"Query\.things takes {needed}, and node\(id:\) finds its rows without: .* at Thing, or give things"
    ):
        check(shown(scope, visible))


@pytest.mark.parametrize(
    ("scope", "visible"),
    [(None, None), (Scope.FILES_READ, Visibility(Scope.FILES_READ)), ((), Visibility(Scope.FILES_READ, own="owner_id"))],
)
def test_allows_a_root_whose_rows_are_found_by_whom_it_serves(scope: Any, visible: Visibility | None) -> None:
    check(shown(scope, visible))


def root(made: Any) -> GraphQLObjectType:
    core = strawberry.Schema(strawberry.type(type("Query", (), {"field": made})), config=StrawberryConfig(scalar_map=SCALARS))._schema  # pyright: ignore[reportPrivateUsage]
    assert core.query_type
    return core.query_type


async def with_more(root: Any, info: strawberry.Info, id: strawberry.ID, more: int = 1) -> str:
    return ""


async def of_id(root: Any, info: strawberry.Info, id: strawberry.ID) -> str:
    return ""


def test_refuses_a_root_whose_plan_does_not_know_its_arguments() -> None:
    check_roots(root(query(scope=None, description="", plan=FindByGlobalId())(of_id)))

    def by_id(id: str) -> tuple[EntityList, PageArguments]:
        return listing.ALL, PageArguments()

    for plan in (FindByGlobalId(), ReadList(by_id)):
        with pytest.raises(TypeError, match="has arguments that its plan does not know"):
            check_roots(root(query(scope=None, description="", plan=plan)(with_more)))


async def unasked(root: Any, info: strawberry.Info) -> str:
    return ""


def test_refuses_to_count_a_resolver_that_a_plan_may_run_twice() -> None:
    check_roots(root(query(scope=None, description="", plan=RunResolver())(unasked)))
    with pytest.raises(TypeError, match="counts its calls, and its plan may run it twice"):
        check_roots(root(query(scope=None, description="", plan=RunResolver(), limit=RateLimitRule("1/second", by=ADDRESS))(unasked)))


async def found(root: Any, info: strawberry.Info, id: strawberry.ID) -> User | None:
    return None


def test_refuses_a_root_that_is_kept_until_other_tables_change() -> None:
    check_roots(root(query(scope=None, description="", plan=FindByGlobalId(), cache=reads(users.User))(found)))
    with pytest.raises(TypeError, match="is kept until other tables change than the one that it reads"):
        check_roots(root(query(scope=None, description="", plan=FindByGlobalId(), cache=reads(items.Item))(found)))


def test_refuses_to_keep_what_is_counted() -> None:
    with pytest.raises(TypeError, match="found in the cache is not counted"):
        query(scope=None, description="", limit=RateLimitRule("1/second", by=ADDRESS), cache=reads(items.Item))


def test_a_rule_about_the_viewer_holds_for_its_own_user_only() -> None:
    class Viewer:
        def __init__(self, user: int | None, *scopes: Scope) -> None:
            self.user, self.scopes = user, scopes

        def is_user(self, user_id: int | None) -> bool:
            return self.user is not None and self.user == user_id

        def holds(self, scope: Scope) -> bool:
            return scope in self.scopes

    own, others = Visibility(Scope.USERS_READ, own="id"), Visibility(Scope.USERS_READ)
    viewers: list[Any] = [Viewer(None), Viewer(1), Viewer(2), Viewer(2, Scope.USERS_READ), Viewer(1, Scope.ITEMS_READ)]
    assert [own.sees(each, 1) for each in viewers] == [False, True, False, True, True]
    assert [own.sees(each, None) for each in viewers] == [False, False, False, True, False]
    assert [others.sees(each, 1) for each in viewers] == [False, False, False, True, False]
