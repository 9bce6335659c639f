"""The `node`, `nodes` and `compute` queries: objects by global id, and CPU work off the event loop."""

import asyncio
from typing import Annotated

import strawberry

from graph.kit.context import Info
from graph.kit.entity.roots import FindAllByGlobalId, FindByGlobalId
from graph.kit.fields import query
from graph.kit.global_ids import Node, resolve_node
from graph.kit.limits.cost_rules import Cost
from graph.kit.process_pool import ProcessPool, fibonacci
from graph.kit.scalars import BigInt
from persistence.kit.errors import InvalidInput

NODES = 100
FIBONACCI_MAX = 20_000  # It has 4,180 digits; Python refuses to print numbers of more than 4,300.


@strawberry.type
class SystemQuery:
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

    @query(
        scope=None,
        description="The n-th Fibonacci number, worked out by addition: work for a processor, done beside the service.",
        cost=1_000,
    )
    async def compute(self, info: Info, n: Annotated[int, strawberry.argument(description=f"0 to {FIBONACCI_MAX}.")]) -> BigInt:
        if not 0 <= n <= FIBONACCI_MAX:
            raise InvalidInput.at("n", f"must be between 0 and {FIBONACCI_MAX}")
        return BigInt(await info.context.port(ProcessPool).run(fibonacci, n))
