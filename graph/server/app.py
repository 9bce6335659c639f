"""The one composition root: what is made at start, in what order requests pass, and which route answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.kit.access import Caller
from graph.kit.context import Services
from graph.kit.errors import Refused
from graph.kit.execution import Engine
from graph.schema import executable
from graph.server.middleware import RequestTrace
from graph.server.pipeline import GraphQLRequest, Pipeline, refused_body
from graph.server.settings import Settings
from graph.server.tokens import Tokens, bearer
from persistence.kit.broker import LocalBroker
from persistence.kit.database import Database
from persistence.kit.events import Feed

GZIP_BYTES = 512


def create_app(settings: Settings) -> Starlette:
    database = Database.connect(settings.database_url, replica_url=settings.database_replica_url)
    broker = LocalBroker()
    feed = Feed(database, broker)
    services = Services(database, feed, broker, ports={})
    pipeline = Pipeline(Engine(executable, suggestions=settings.debug), services)
    tokens = Tokens(database, settings.signing_key)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        await feed.start()
        yield
        await feed.stop()
        await broker.close()
        await database.close()

    async def graphql(request: Request) -> Response:
        try:
            token = bearer(request.headers.get("authorization"))
            principal = await tokens.principal(token) if token else None
            caller = Caller(principal, request.client.host if request.client else "", request.state.request_id)
            sent = orjson.loads(await request.body())
            asked = GraphQLRequest(sent.get("query"), sent.get("operationName"), sent.get("variables"), sent.get("extensions"))
            operation = await pipeline.prepare(asked, caller)
            answer = await pipeline.run(operation, asked, caller)
        except Refused as refused:
            return Response(refused_body(refused), 400, refused.headers, "application/json")
        return Response(answer.body, 200, answer.headers, "application/json")

    app = Starlette(
        routes=[Route("/graphql", graphql, methods=["POST"])],
        middleware=[
            Middleware(RequestTrace),
            Middleware(GZipMiddleware, minimum_size=GZIP_BYTES),
            Middleware(CORSMiddleware, allow_origins=settings.allowed_origins, allow_methods=["*"], allow_headers=["*"], max_age=600),
        ],
        lifespan=lifespan,
    )
    app.state.services, app.state.tokens = services, tokens
    return app
