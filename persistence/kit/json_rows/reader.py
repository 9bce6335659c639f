"""Reads of declared entities as JSON: by key, by page and by count, for one parent or for many at once.

A statement is made once for each form; values are bound. Whoever asks in the same form at the same time shares a run of it, whatever documents ask. On
SQLite pages are not shared: in this process there is no round trip to save. What takes a scan there, to count a list or to search it, is kept by the
executor until the database changes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

from persistence.kit.database.database import Database
from persistence.kit.json_rows import statements
from persistence.kit.json_rows.child_pages import ChildPages
from persistence.kit.json_rows.json_page import RowForm
from persistence.kit.json_rows.lookup import Aggregates, Lookup
from persistence.kit.json_rows.pages import NumberedPages, Pages
from persistence.kit.query.child_aggregate import ChildAggregate
from persistence.kit.query.entity import ChildList


class EntityReader:
    """Its readers are kept: what is asked for in the same form shares statements."""

    def __init__(self, database: Database) -> None:
        made, forms = statements.Statements(database), statements.FORMS
        self.lookup: Callable[..., Lookup] = lru_cache(forms)(partial(Lookup, made))
        self.pages: Callable[[RowForm], Pages] = lru_cache(forms)(partial(Pages, made))
        self.numbered: Callable[[RowForm], NumberedPages] = lru_cache(forms)(partial(NumberedPages, made))
        self.aggregates: Callable[[ChildAggregate], Aggregates] = lru_cache(forms)(partial(Aggregates, made))
        self.children: Callable[[RowForm, ChildList], ChildPages] = lru_cache(forms)(partial(ChildPages, made))
