"""Classifies errors of the database and of object stores that are transient: the same request may succeed later."""

from __future__ import annotations

import sqlite3

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

PASSING_STATES = (
    "08",  # connection exceptions
    "25006",  # read only: the primary has just become a standby
    "40",  # deadlocks and other transactions that were rolled back for a neighbour's sake
    "53",  # insufficient resources: disk full, out of memory, too many connections
    "55P03",  # lock not available
    "57",  # operator intervention: shutdown, crash, cannot connect now, statement timeout
    "58",  # system errors
)


def is_transient(error: BaseException) -> bool:
    """Source: PostgreSQL manual, appendix A (SQLSTATE classes); SQLite reports a locked, full or unreadable file as OperationalError.

    asyncpg has an internal error for a statement on a connection that the server has just said farewell to, but not closed yet.
    """
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        if isinstance(state, str):
            return state.startswith(PASSING_STATES)
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError | InternalError)
    if isinstance(error, sqlite3.OperationalError):  # Of hot reads, which pass no SQLAlchemy. A statement that is wrong is no outage.
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) != sqlite3.SQLITE_ERROR
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(PASSING_STATES)
    if isinstance(error, sqlite3.Error):
        return isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_ERROR
    return isinstance(error, PoolTimeout | asyncpg.InterfaceError | asyncpg.InternalClientError | ConnectionError | TimeoutError)
