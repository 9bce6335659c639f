"""The whole API: each root is the sum of the entities' shares."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from graph import item_plans
from graph.audit import AuditQuery
from graph.echo import EchoMutation, EchoSubscription
from graph.files import FileMutation, FileQuery
from graph.health import HealthQuery
from graph.item_changes import ItemMutation
from graph.item_events import ItemEventSubscription
from graph.items import Item, ItemQuery
from graph.jobs import JobQuery
from graph.kit.scalars import SCALARS
from graph.limits import LimitQuery
from graph.purchases import PurchaseMutation, PurchaseSubscription
from graph.sales import SalesQuery
from graph.summaries import SummaryQuery
from graph.system import SystemQuery
from graph.tokens import TokenMutation
from graph.user_changes import UserMutation
from graph.users import UserQuery


@strawberry.type(description="Everything that can be read.")
class Query(ItemQuery, SummaryQuery, SalesQuery, FileQuery, UserQuery, AuditQuery, JobQuery, LimitQuery, HealthQuery, SystemQuery):
    pass


@strawberry.type(description="Everything that can be changed. Fields run one after the other, each in a transaction of its own.")
class Mutation(ItemMutation, PurchaseMutation, FileMutation, UserMutation, TokenMutation, EchoMutation):
    pass


@strawberry.type(description="Everything that can be listened to.")
class Subscription(ItemEventSubscription, PurchaseSubscription, EchoSubscription):
    pass


schema = strawberry.Schema(Query, Mutation, Subscription, types=[Item], config=StrawberryConfig(scalar_map=SCALARS))

executable = schema._schema  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- Strawberry offers no other way to what graphql-core runs

PLANNED = {"item": item_plans.item, "items": item_plans.items}
