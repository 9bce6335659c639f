"""The `Purchase` type, its filter and order, and the `purchases` query."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from operator import mul

import strawberry

from graph.items.types import Item
from graph.kit.auth import Scope
from graph.kit.connections import Connection
from graph.kit.context import Context
from graph.kit.entity.declaration import computed, entity, to_one
from graph.kit.entity.visibility import Visibility
from graph.kit.global_ids import Node
from graph.kit.operations.lists import at_least, below, equal, read_list, refers_to
from graph.users.types import User
from persistence import users
from persistence.items import table as items
from persistence.purchases import listing
from persistence.purchases import table as purchases


@strawberry.enum(description="How far a purchase is.")
class PurchaseStatus(Enum):
    QUEUED = strawberry.enum_value(
        purchases.QUEUED, description="Sold. Its background work, such as telling the shop, is still to be done."
    )
    COMPLETED = strawberry.enum_value(purchases.COMPLETED, description="All done.")
    CANCELLED = strawberry.enum_value(
        purchases.CANCELLED, description="Taken back: its units are in stock again, and it counts in no report."
    )


VISIBLE = Visibility(Scope.USERS_READ, own="buyer_id", shared_with="seller_id")


@entity(purchases.ENTITY, visible=VISIBLE)
@strawberry.type(
    description="Units of one item that a user bought. Visible to the buyer, to the seller, who owned the item then, and with `users:read`."
)
class Purchase(Node):
    quantity: int = strawberry.field(description="How many units.")
    unit_price: Decimal = strawberry.field(description="The price of one unit at the moment of the purchase.")
    total: Decimal = computed("unit_price", "quantity", compute=mul, description="`quantity` times `unitPrice`.")
    status: PurchaseStatus = strawberry.field(description="How far it is.")
    created_at: datetime = strawberry.field(description="When it was bought.")
    item: Item = to_one(
        "item_id",
        items.ENTITY,
        description="What was bought, as it is now; also when it has left the catalogue since.",
    )
    buyer: User = to_one("buyer_id", users.ENTITY, description="Who bought it.")


@strawberry.input(
    description="Conditions that all hold; what is left out or null is no condition. An id of nothing is that of no purchase."
)
class PurchaseFilter:
    status: PurchaseStatus | None = equal("status", description="How far they are.")
    item_id: strawberry.ID | None = refers_to("item_id", "Item", description="Of this item.")
    buyer_id: strawberry.ID | None = refers_to("buyer_id", "User", description="What this user bought: your own id for what you bought.")
    seller_id: strawberry.ID | None = refers_to("seller_id", "User", description="What this user sold: your own id for what you sold.")
    created_after: datetime | None = at_least("created_at", description="Bought at this instant or later.")
    created_before: datetime | None = below("created_at", description="Bought before this instant.")


@strawberry.enum(description="What a list of purchases can be ordered by.")
class PurchaseOrderField(Enum):
    CREATED_AT = strawberry.enum_value("created_at", description="By when they were made.")


def seen(context: Context, whole: listing.PurchaseList) -> listing.PurchaseList:
    """What the viewer may see of a list: all of it, or what they bought and sold."""
    return whole if context.holds(Scope.USERS_READ) else replace(whole, viewer_id=context.require().user_id)


@strawberry.type
class PurchaseQuery:
    purchases: Connection[Purchase] = read_list(
        listing.EVERYBODYS,
        filter=PurchaseFilter,
        order=PurchaseOrderField,
        of_viewer=seen,
        scope=(),
        description="What you bought, and what others bought of the items that you own; with `users:read`, all purchases. The oldest first.",
    )
