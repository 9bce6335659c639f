"""The `idempotencyKey` argument, which makes a mutation safe to send again."""

from typing import Annotated

import strawberry

IdempotencyKey = Annotated[
    str | None,
    strawberry.argument(
        description="1 to 255 characters of your choice, new for each new request, kept for 24 hours: "
        "sent again with the same request, it answers again what it answered first and changes nothing."
    ),
]
