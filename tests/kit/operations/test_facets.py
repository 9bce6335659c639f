"""Facets are declared for a list of any entity: here of users, by what they may do and by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import strawberry
from strawberry.schema.config import StrawberryConfig

from graph.kit.auth import Scope
from graph.kit.connections import Connection
from graph.kit.operations.facets import Facets, Precision, ValueFacet, count_precision, count_values, facets_beside
from graph.kit.operations.lists import equal, read_list
from graph.kit.scalars import SCALARS
from graph.users.types import User
from persistence import users
from persistence.kit.query.entity import Facet
from persistence.kit.query.entity_list import EntityList
from tests.support.planner.comparison import STRANGER, Ways

if TYPE_CHECKING:
    from tests.support.service import Service

ALL = EntityList(users.ENTITY, facets={"scopes": Facet(users.User.scopes, ()), "full_name": Facet(users.User.full_name, ("full_name",))})


@strawberry.type
class UserFacets(Facets):
    scopes: list[ValueFacet] = count_values("scopes", users.ENTITY, description="How many may do what.")
    full_name: list[ValueFacet] = count_values("full_name", users.ENTITY, description="How many are called so.")
    precision: Precision = count_precision(users.ENTITY)


@strawberry.type
class FacetedUsers(Connection[User]):
    facets: UserFacets = facets_beside(UserFacets)


@strawberry.input
class Which:
    full_name: str | None = equal("full_name", description="Who is called so.")


@strawberry.type
class Query:
    users: FacetedUsers = read_list(ALL, scope=None, filter=Which, description="All of them.")


ASK = """
query ($filter: Which) {
  users(first: 1, filter: $filter) { facets { scopes(first: 2) { value count } fullName { value count } precision } }
}
"""


async def test_of_users(service: Service) -> None:
    read, write, see = Scope.ITEMS_READ, Scope.ITEMS_WRITE, Scope.FILES_READ
    for name, full_name, held in (("ada", "A", (write, read)), ("bob", "B", (read,)), ("cyd", "A", (see,))):
        await service.make_user(name, held, full_name=full_name)
    ways = Ways(service)
    operation = await ways.fast.prepare(ways.request("{ __typename }", {}), STRANGER)
    schema = strawberry.Schema(Query, config=StrawberryConfig(scalar_map=SCALARS))

    async def facets(**filter_: Any) -> Any:
        context: Any = ways.fast.context(operation, STRANGER)
        found = await schema.execute(ASK, {"filter": filter_}, context_value=context)
        assert found.errors is None
        return (found.data or {})["users"]["facets"]

    names = [{"value": "A", "count": 2}, {"value": "B", "count": 1}]
    scopes = [{"value": "items:read", "count": 2}, {"value": "files:read", "count": 1}]
    assert await facets() == {"scopes": scopes, "fullName": names, "precision": "EXACT"}
    scopes = [{"value": "files:read", "count": 1}, {"value": "items:read", "count": 1}]
    assert await facets(fullName="A") == {"scopes": scopes, "fullName": names, "precision": "EXACT"}
