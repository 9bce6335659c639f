"""What each worker process of uvicorn runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graph.server import logs
from graph.server.app import create_app
from graph.server.settings import load

if TYPE_CHECKING:
    from starlette.applications import Starlette


def app() -> Starlette:
    settings = load()
    logs.configure(settings)
    return create_app(settings)
