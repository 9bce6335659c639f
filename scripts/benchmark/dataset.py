"""The same data for everybody: the demo shop in PostgreSQL and in a SQLite file, made anew for each run."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from persistence.demo import shop as demo
from scripts.benchmark.servers import ROOT, Place
from tests.support.servers.databases import Postgres, create_database

ENOUGH = 100_000_000  # Units of each item: no purchase is refused while purchases are measured.
SEEDED = 5_000  # Different items; the rest are copies of them, which the database makes in a tenth of the time.
FILE = "bench.db"


@dataclass(frozen=True)
class Dataset:
    server: Postgres
    place: Place
    items: int

    @property
    def sqlite(self) -> Place:
        return Place(f"sqlite+aiosqlite:///{self.place.folder / FILE}", self.place.folder, self.place.secret)

    def lay_sqlite(self) -> None:
        file = self.sqlite
        _graph(file, "migrate")
        _graph(file, "seed", "--items", str(SEEDED))
        with closing(sqlite3.connect(self.place.folder / FILE)) as connection, connection:
            connection.execute(_copies("json_each(?)"), (json.dumps(list(range(self.items // SEEDED - 1))),))

    async def grow(self, items: int) -> None:
        """Bring the table to so many items: copies of the first ones."""
        connection = await asyncpg.connect(self.place.plain_url)
        now = await connection.fetchval("SELECT count(*) FROM items")
        await connection.execute(_copies(f"generate_series(1, {(items - now) // SEEDED})"), timeout=600)
        await connection.execute("UPDATE items SET inventory = $1 WHERE id <= $2", ENOUGH, SEEDED)
        await connection.execute("VACUUM ANALYZE", timeout=600)
        await connection.close()

    def token(self, place: Place | None = None) -> str:
        """Of the demo shop's first seller, with every scope."""
        where = place or self.place
        username = demo.user(0).username
        _graph(where, "grant", username, "--all")
        return _graph(where, "token", username).strip()


def _graph(place: Place, *arguments: str) -> str:
    variables = {"DATABASE_URL": place.database_url, "SECRET_KEY": place.secret, "FILES_URL": (place.folder / "files").as_uri()}
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | variables
    program = [sys.executable, "-m", "graph", *arguments]
    return subprocess.run(program, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def created(items: int) -> Generator[Dataset]:
    """PostgreSQL keeps its promises here: every commit is synced."""
    with TemporaryDirectory(prefix="storegraph-bench-") as folder, Postgres.durable() as server:
        url = asyncio.run(create_database(server.url, "bench"))
        place = Place(url, Path(folder), secrets.token_hex(32))
        _graph(place, "migrate")
        _graph(place, "seed", "--items", str(SEEDED))
        ground = Dataset(server, place, items)
        asyncio.run(ground.grow(items))
        yield ground


def _copies(repeated: str) -> str:
    columns = "description, price_cents, tags, version, created_at, updated_at, owner_id, search_words"
    return f"""INSERT INTO items (name, inventory, {columns}) SELECT name, {ENOUGH}, {columns}
        FROM (SELECT * FROM items WHERE id <= {SEEDED}) AS seeded, {repeated}"""  # noqa: S608 -- columns and numbers only
