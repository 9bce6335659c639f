"""One service's data, seen through the planner and through the reference executor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from graph.kit.auth import Caller, Principal, Scope
from graph.kit.errors import Refused
from graph.kit.execution.engine import Engine
from graph.kit.planner.planner import Planner
from graph.schema import executable, schema
from graph.server.graphql.budget import BudgetService
from graph.server.graphql.persisted_documents import PersistedDocuments
from graph.server.graphql.pipeline import Pipeline
from graph.server.graphql.requests import GraphQLRequest
from graph.server.settings import BUDGET
from graph.server.telemetry.logs import OperationLog
from graph.server.telemetry.metrics import Metrics
from graph.server.telemetry.telemetry import Telemetry
from persistence.kit.limits.token_bucket import LocalTokenBucket
from tests.support.service import Service

STRANGER = Caller(None, "127.0.0.1", "test")


def caller(user_id: int, *scopes: Scope) -> Caller:
    principal = Principal(user_id, f"user {user_id}", frozenset(scopes), datetime.now(UTC) + timedelta(hours=1), "token")
    return Caller(principal, "127.0.0.1", "test")


class Ways:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.fast = self.pipeline(fast=True)
        self.reference = self.pipeline(fast=False)
        self.names: dict[str, str] = {}

    def pipeline(self, *, fast: bool) -> Pipeline:
        telemetry = Telemetry(Metrics(None), OperationLog(self.service.settings))
        engine = Engine(executable, telemetry, suggestions=True, introspection=True, fast=fast)
        limits = BudgetService(engine, LocalTokenBucket(BUDGET), max_cost=BUDGET.capacity, enabled=False)
        planner = Planner(schema, engine, self.service.services) if fast else None
        return Pipeline(engine, self.service.services, PersistedDocuments(), limits, telemetry, planner=planner)

    def request(self, document: str, variables: dict[str, Any]) -> GraphQLRequest:
        filled = {name: value.format(**self.names) if isinstance(value, str) else value for name, value in variables.items()}
        return GraphQLRequest(query=document, variables=filled)

    async def answers(self, document: str, variables: dict[str, Any], caller: Caller = STRANGER) -> tuple[bytes, bytes]:
        request = self.request(document, variables)
        return await answer(self.fast, request, caller), await answer(self.reference, request, caller)

    @property
    def planner(self) -> Planner:
        found = self.fast._planner  # pyright: ignore[reportPrivateUsage] -- to look behind it
        assert found is not None
        return found

    async def is_planned(self, document: str, variables: dict[str, Any], caller: Caller = STRANGER) -> bool:
        request = self.request(document, variables)
        operation = await self.fast.prepare(request, caller)
        return await self.planner.answer(operation, request.variables, self.fast.context(operation, caller)) is not None


async def answer(pipeline: Pipeline, request: GraphQLRequest, caller: Caller = STRANGER) -> bytes:
    try:
        return (await pipeline.run(await pipeline.prepare(request, caller), request, caller)).body
    except Refused as refused:
        return b"refused: " + str(refused).encode()


def in_order(body: bytes) -> Any:
    """An answer in which nothing depends on which of several fields beside each other was done first.

    Where several fields that must not be null have failed below one that may, either error tells why that is null.
    """
    if not body.startswith(b"{"):
        return body
    found = orjson.loads(body)
    errors = [_told(error, found["data"]) for error in found.pop("errors", [])]
    return sorted({orjson.dumps(error) for error in errors}), found, orjson.dumps(found["data"])


def _told(error: dict[str, Any], data: Any) -> Any:
    """The error, or where it made something null further up."""
    path: list[Any] = error.get("path") or []
    for place, key in enumerate(path):
        if data is None:
            return path[:place]
        data = data[key]
    return error
