"""The composition root: creates the application from its components, its routes and its middleware.

Components are created in `components.py`, started and stopped in `lifespan.py`; here is the order in which requests pass them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from graph.kit.limits.route_rate_limiter import RouteRateLimiter
from graph.schema import schema
from graph.server.asgi.compression import Compression
from graph.server.asgi.middleware_shortcuts import CorsShortcut, PathShortcut, PlainStarlette
from graph.server.asgi.response_headers import ResponseHeadersMiddleware
from graph.server.asgi.trusted_proxies import TrustedProxies, networks
from graph.server.components import Components, create_components
from graph.server.graceful_shutdown import ShutdownMiddleware
from graph.server.graphql.http import METHODS, HttpEndpoint
from graph.server.graphql.response_replay import ResponseReplay
from graph.server.graphql.subscriptions.sse import EventStreams
from graph.server.graphql.subscriptions.websocket import SocketEndpoint, SocketLimits
from graph.server.lifespan import lifespan
from graph.server.pages.docs import DocsPages
from graph.server.pages.explorer import STYLES, Explorer
from graph.server.pages.home import HomePage
from graph.server.pages.shop import ShopPage
from graph.server.rest import exports
from graph.server.rest.files import FileRoutes
from graph.server.rest.health import HealthRoutes
from graph.server.rest.imports import ImportRoutes
from graph.server.rest.routes import Routes, UnroutedResponse, metered
from graph.server.rest.sales_report import SalesReportRoutes
from graph.server.settings import Settings


def create_app(settings: Settings, replaced: Mapping[type[Any], Any] | None = None) -> Starlette:
    """`replaced` puts other ports in the place of the service's own."""
    components = create_components(settings, replaced or {})
    explorer = Explorer() if settings.explorer else None
    graphql = create_graphql_endpoint(components, explorer)
    app = PlainStarlette(
        routes=[*create_graphql_routes(graphql), *create_rest_routes(components), *create_pages(components, explorer)],
        middleware=create_middleware(components, graphql, create_socket_endpoint(components)),
        exception_handlers={HTTPException: UnroutedResponse(components.limits)},
        lifespan=partial(lifespan, components),
    )
    app.state.services, app.state.tokens = components.services, components.tokens
    app.state.connections, app.state.pipeline = components.connections, components.pipeline
    return app


def create_graphql_endpoint(components: Components, explorer: Explorer | None) -> HttpEndpoint:
    seconds = components.settings.operation_timeout_seconds
    streams = EventStreams(components.pipeline, components.connections, seconds=seconds)
    page = explorer.page if explorer else None
    return HttpEndpoint(components.pipeline, components.callers, components.origins, streams, page=page, seconds=seconds)


def create_socket_endpoint(components: Components) -> SocketEndpoint:
    limits = SocketLimits(operation_seconds=components.settings.operation_timeout_seconds)
    return SocketEndpoint(components.pipeline, components.callers, components.origins, components.connections, limits=limits)


def create_graphql_routes(graphql: HttpEndpoint) -> list[Route]:
    return [Route("/graphql", graphql)]  # Only for its redirect of `/graphql/`: requests take the shortcut.


def create_rest_routes(components: Components) -> list[Route]:
    settings = components.settings
    limiter = RouteRateLimiter(settings.redis_url, enabled=settings.rate_limits_enabled)
    seconds = settings.operation_timeout_seconds
    routes = Routes(components.services, components.callers, components.origins, limiter, components.limits, seconds=seconds)
    return [
        Route("/metrics", components.monitoring.scrape),
        *FileRoutes(components.stores.blobs, most_bytes=settings.max_upload_bytes, quota_bytes=settings.upload_quota_bytes).routes(routes),
        *exports.routes(routes),
        *ImportRoutes(most_bytes=settings.max_upload_bytes).routes(routes),
        *SalesReportRoutes(settings.app_name).routes(routes),
        *HealthRoutes(components.checks, limited=settings.rate_limits_enabled).routes,
    ]


def create_pages(components: Components, explorer: Explorer | None) -> list[Route]:
    """Pages for people, without a token."""
    settings = components.settings
    # The explorer reads the schema there where introspection is off.
    sdl = schema.as_str() if settings.introspection or explorer else None
    home = HomePage(settings.app_name, sdl, explorer=explorer is not None, shop=settings.debug)
    shop = ShopPage(settings.app_name).routes if settings.debug else ()
    pages = [*home.routes, *STYLES, *(explorer.routes if explorer else ()), *shop, *DocsPages().routes]
    return [metered(page, components.limits) for page in pages]


def create_middleware(components: Components, graphql: HttpEndpoint, sockets: SocketEndpoint) -> list[Middleware]:
    """In the order in which requests pass."""
    settings, seconds = components.settings, components.settings.operation_timeout_seconds
    replay = Middleware(ResponseReplay, path="/graphql", pipeline=components.pipeline, callers=components.callers, seconds=seconds)
    return [
        *([Middleware(TrustedProxies, trusted=networks(settings.trusted_proxies))] if settings.trusted_proxies else ()),
        Middleware(ResponseHeadersMiddleware),
        Middleware(ShutdownMiddleware, shutdown=components.shutdown),
        *components.telemetry.middleware,
        Middleware(PathShortcut, path="/graphql", endpoint=sockets, kind="websocket"),
        *([replay] if settings.keeps_responses else ()),
        Middleware(PathShortcut, path="/graphql", endpoint=graphql, plain=True),
        Middleware(Compression),
        Middleware(CorsShortcut, allow_origins=settings.allowed_origins, allow_methods=METHODS, allow_headers=["*"], max_age=600),
        Middleware(PathShortcut, path="/graphql", endpoint=graphql),
    ]
