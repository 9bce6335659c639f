"""The `node` and `nodes` queries: objects of any type by their global ids."""

import asyncio
from typing import Annotated

import strawberry

from graph.kit.context import Info
from graph.kit.entity.roots import FindAllByGlobalId, FindByGlobalId
from graph.kit.fields import query
from graph.kit.global_ids import Node, resolve_node
from graph.kit.limits.cost_rules import Cost
from persistence.kit.errors import InvalidInput

NODES = 100


@strawberry.type
class NodeQuery:
    @query(
        scope=None,
        description="The object with this global id, or null if there is none that you may see.",
        cost=20,
        plan=FindByGlobalId(),
    )
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:
        return await resolve_node(info, id)

    @query(
        scope=None,
        description="The objects with these global ids, in the same order; null for each that there is none of.",
        cost=Cost(weight=3, size="ids"),
        plan=FindAllByGlobalId(most=NODES),
    )
    async def nodes(
        self, info: Info, ids: Annotated[list[strawberry.ID], strawberry.argument(description=f"At most {NODES}.")]
    ) -> list[Node | None]:
        if len(ids) > NODES:
            raise InvalidInput.at("ids", f"must be at most {NODES}")
        return list(await asyncio.gather(*(resolve_node(info, id_) for id_ in ids)))
