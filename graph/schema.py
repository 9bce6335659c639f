"""The GraphQL schema: each root type is the sum of the entities' fields."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from graph.audit import AuditQuery
from graph.budget import BudgetQuery
from graph.compute import ComputeQuery
from graph.echo import EchoMutation, EchoSubscription
from graph.files import FileMutation, FileQuery
from graph.health import HealthQuery
from graph.inventory import InventoryMutation
from graph.items.events import ItemEventSubscription
from graph.items.mutations import ItemMutation
from graph.items.summary import SummaryQuery
from graph.items.types import Item, ItemQuery
from graph.items.upserts import UpsertMutation
from graph.jobs import JobMutation, JobQuery
from graph.kit.entity.declaration import check
from graph.kit.scalars import SCALARS
from graph.node import NodeQuery
from graph.purchases.mutations import PurchaseMutation
from graph.purchases.status import PurchaseSubscription
from graph.purchases.types import PurchaseQuery
from graph.sales import SalesQuery
from graph.users.account import AccountMutation
from graph.users.logins import LoginMutation
from graph.users.mutations import UserMutation
from graph.users.tokens import TokenMutation
from graph.users.types import UserQuery


@strawberry.type(description="Everything that can be read.")
class Query(
    ItemQuery,
    SummaryQuery,
    PurchaseQuery,
    SalesQuery,
    FileQuery,
    UserQuery,
    AuditQuery,
    JobQuery,
    BudgetQuery,
    HealthQuery,
    NodeQuery,
    ComputeQuery,
):
    pass


@strawberry.type(description="Everything that can be changed. Fields run one after the other, each in a transaction of its own.")
class Mutation(
    ItemMutation,
    UpsertMutation,
    InventoryMutation,
    PurchaseMutation,
    FileMutation,
    UserMutation,
    AccountMutation,
    LoginMutation,
    TokenMutation,
    JobMutation,
    EchoMutation,
):
    pass


@strawberry.type(description="Everything that can be listened to.")
class Subscription(ItemEventSubscription, PurchaseSubscription, EchoSubscription):
    pass


schema = strawberry.Schema(Query, Mutation, Subscription, types=[Item], config=StrawberryConfig(scalar_map=SCALARS))

executable = schema._schema  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- Strawberry offers no other way to what graphql-core runs

check(executable)
