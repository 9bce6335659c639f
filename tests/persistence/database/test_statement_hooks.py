"""Statement hooks: what is told of each statement that a database runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, text

from persistence.kit.database import database

if TYPE_CHECKING:
    from collections.abc import Callable

private: Any = database


def test_a_statement_under_way_when_watching_begins_is_left_alone() -> None:
    seen: list[str] = []

    def hook(statement: str) -> Callable[[], None]:
        seen.append(statement)
        return lambda: seen.append("done")

    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.create_function("begin_watching", 0, lambda: private._watch(engine, hook) or 1)
        assert connection.scalar(text("SELECT begin_watching()")) == 1
        assert seen == []
        assert connection.scalar(text("SELECT 2")) == 2
    assert seen == ["SELECT 2", "done"]
    engine.dispose()
