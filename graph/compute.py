"""The `compute` query: CPU-bound work, in a process of its own so that the event loop goes on."""

from typing import Annotated

import strawberry

from graph.kit.context import Info
from graph.kit.fields import query
from graph.kit.scalars import BigInt
from persistence.kit.errors import InvalidInput
from persistence.kit.tasks.process_pool import ProcessPool, fibonacci

FIBONACCI_MAX = 20_000  # It has 4,180 digits; Python refuses to print numbers of more than 4,300.


@strawberry.type
class ComputeQuery:
    @query(
        scope=None,
        description="The n-th Fibonacci number, worked out by addition: work for a processor, done beside the service.",
        cost=1_000,
    )
    async def compute(self, info: Info, n: Annotated[int, strawberry.argument(description=f"0 to {FIBONACCI_MAX}.")]) -> BigInt:
        if not 0 <= n <= FIBONACCI_MAX:
            raise InvalidInput.at("n", f"must be between 0 and {FIBONACCI_MAX}")
        return BigInt(await info.context.port(ProcessPool).run(fibonacci, n))
