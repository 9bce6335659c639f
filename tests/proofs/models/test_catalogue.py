"""A catalogue that is brought in step by calls, files and hands, of which some are killed half-way, and a subscriber who keeps a copy by the event feed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from sqlalchemy import select

from persistence.items import file_import, upserts
from persistence.items import table as items
from persistence.items.table import Item, ItemValues
from persistence.items.upserts import ItemPatch
from persistence.kit.events.broker import LocalBroker
from persistence.kit.events.feed import Feed
from persistence.kit.events.log import Event
from persistence.kit.imports import file_sync
from persistence.kit.imports.file_rows import Match
from persistence.kit.imports.file_sync import FileSync, SyncOptions
from persistence.kit.imports.outcomes import Upserted, UpsertOutcome
from tests.proofs.models.machines import SHORTER, UNSHRUNK, OnDatabase, run

BATCH_ROWS = 2  # Of a file, so that most have several.
KEYS, NAMES, PRICES = st.sampled_from("ABCD"), st.sampled_from(["Kettle", "Pan"]), st.integers(1, 2)
Row = Mapping[str, Any]
NAMED = st.fixed_dictionaries({"externalId": KEYS}, optional={"name": NAMES, "price": PRICES})
FAULTY = st.one_of(st.just({"name": "Pot"}), st.fixed_dictionaries({"externalId": KEYS, "price": st.just("free")}))
ROWS = st.lists(NAMED, min_size=1, max_size=4)
FILE_ROWS = st.lists(st.one_of(NAMED, NAMED, NAMED, FAULTY), max_size=5)


@dataclass(frozen=True)
class Known:
    """An item as it should be."""

    key: str | None
    name: str
    price: Decimal
    version: int = 1


class CatalogueMachine(OnDatabase):
    """A row that says nothing new writes nothing; a file that is killed and sent again does each row once; whoever follows the events has the catalogue."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(file_sync, "BATCH_ROWS", BATCH_ROWS)
        self.catalogue: dict[int, Known] = {}
        self.events: list[tuple[str, int, AbstractSet[str]]] = []
        self.copy: dict[int, Known] = {}
        self.heard = 0

    def teardown(self) -> None:
        self.patch.undo()
        super().teardown()

    # The model.

    def _expected(self, row: Row, named: set[str]) -> str:
        """What a row should do; an earlier one that named its item and was carried out is in `named`."""
        key = row["externalId"]
        if key in named:
            return "refused"
        known = next((item for item in self.catalogue.values() if item.key == key), None)
        if known is None:
            return "created" if {"name", "price"} <= row.keys() else "refused"
        return "unchanged" if known == _with(known, row) else "updated"

    def _note(self, rows: Sequence[Row], outcomes: Sequence[str], ids: Sequence[int | None]) -> None:
        """What one transaction did, as the events tell it: changes first, then new items."""
        done = list(zip(rows, outcomes, ids, strict=True))
        for row, outcome, item_id in done:
            if outcome == "updated" and item_id:
                before = self.catalogue[item_id]
                after = _with(before, row)
                fields = {name for name in ("name", "price") if getattr(after, name) != getattr(before, name)}
                self.catalogue[item_id] = replace(after, version=before.version + 1)
                self.events.append(("item.updated", item_id, fields))
        for row, outcome, item_id in done:
            if outcome == "created" and item_id:
                self.catalogue[item_id] = Known(row["externalId"], row["name"], Decimal(row["price"]))
                self.events.append(("item.created", item_id, frozenset()))

    def _forget(self, item_id: int) -> None:
        del self.catalogue[item_id]
        self.events.append(("item.deleted", item_id, frozenset()))

    # The steps.

    @rule(rows=ROWS)
    def upsert(self, rows: list[Row]) -> None:
        async def upsert() -> list[Any]:
            async with self.database.transaction() as work:
                return await upserts.upsert(work, [_patch(row) for row in rows], owner_id=None)

        expected, named = list[str](), set[str]()
        for row in rows:
            expected.append(self._expected(row, named))
            named |= {row["externalId"]} if expected[-1] != "refused" else set()
        results = self.runner.run(upsert())
        assert [result.outcome.value if isinstance(result, Upserted) else "refused" for result in results] == expected
        self._note(rows, expected, [result.row_id if isinstance(result, Upserted) else None for result in results])

    @rule(rows=FILE_ROWS, killed_after=st.integers(0, 3), delete_missing=st.booleans())
    def send_file(self, rows: list[Row], killed_after: int, delete_missing: bool) -> None:
        """Twice: the first time it is killed after some batches."""
        if 0 < killed_after * BATCH_ROWS < len(rows):
            self._send(rows, delete_missing, batches=killed_after)
        self._send(rows, delete_missing)

    def _send(self, rows: list[Row], delete_missing: bool, batches: int | None = None) -> None:
        reports = iter(self.runner.run(self._import(rows, delete_missing, batches)))
        named, spared = set[str](), False
        for start in range(0, len(rows) if batches is None else batches * BATCH_ROWS, BATCH_ROWS):
            batch = rows[start : start + BATCH_ROWS]
            expected = list[str]()
            for row in batch:
                is_readable = "externalId" in row and row.get("price") != "free"
                expected.append(self._expected(row, named) if is_readable else "refused")
                named |= {row["externalId"]} if "externalId" in row else set()
                spared = spared or "externalId" not in row
            reported = {report.line: report for report in next(reports)}
            ids = [reported[line].row_id if line in reported else None for line in range(start + 1, start + 1 + len(batch))]
            found = [reported[line].outcome if line in reported else "unchanged" for line in range(start + 1, start + 1 + len(batch))]
            assert found == expected
            self._note(batch, expected, ids)
        missing = [id_ for id_, item in self.catalogue.items() if item.key is not None and item.key not in named]
        for item_id in sorted(missing) if delete_missing and batches is None and named and not spared else ():
            self._forget(item_id)

    async def _import(self, rows: list[Row], delete_missing: bool, batches: int | None) -> list[Sequence[Any]]:
        file = io.BytesIO(b"\n".join(map(orjson.dumps, rows)))
        sync, done = FileSync(self.database, file_import.IMPORT, SyncOptions(Match.KEY, delete_missing)), list[Sequence[Any]]()
        async with aclosing(sync.run(file_import.from_json_lines(file, match=Match.KEY))) as run_:
            async for batch in run_:
                done.append(batch.rows)
                if len(done) == batches:
                    break
        return done

    @rule(name=NAMES)
    def create_by_hand(self, name: str) -> None:
        """Without an external id, so that no file deletes it."""

        async def create() -> int:
            async with self.database.transaction() as work:
                return (await items.create(work, ItemValues(name, Decimal(1)), owner_id=None)).id

        item_id = self.runner.run(create())
        self.catalogue[item_id] = Known(None, name, Decimal(1))
        self.events.append(("item.created", item_id, frozenset()))

    @precondition(lambda self: self.catalogue)
    @rule(data=st.data())
    def delete_by_hand(self, data: st.DataObject) -> None:
        """An external id is free again then."""
        chosen = data.draw(st.sampled_from(sorted(self.catalogue)))

        async def delete() -> None:
            async with self.database.transaction() as work:
                await items.delete(work, chosen)

        self.runner.run(delete())
        self._forget(chosen)

    @rule()
    def follow(self) -> None:
        """The subscriber comes back, hears what was missed, and looks at each item that an event is about."""
        self.runner.run(self._follow())
        assert self.copy == self.catalogue

    async def _follow(self) -> None:
        feed = Feed(self.database, LocalBroker())
        await feed.start()
        await feed.position()
        feed.stop_subscriptions()  # After what there is now.
        try:
            async with aclosing(feed.subscribe(self.heard)) as news:
                async for event in news:
                    assert isinstance(event, Event)
                    self.heard = event.id
                    self.copy.pop(event.subject_id, None)
                    self.copy |= await self._present(Item.id == event.subject_id)
        finally:
            await feed.stop()

    async def _present(self, *conditions: Any) -> dict[int, Known]:
        statement = select(Item.id, Item.external_id, Item.name, Item.price, Item.version).where(Item.deleted_at.is_(None), *conditions)
        async with self.database.reading() as session:
            return {row[0]: Known(*row[1:]) for row in await session.execute(statement)}

    @invariant()
    def agrees(self) -> None:
        async def told() -> list[Any]:
            async with self.database.reading() as session:
                return list(await session.scalars(select(Event).order_by(Event.id)))

        assert self.runner.run(self._present()) == self.catalogue
        assert [(event.kind, event.subject_id, set(event.data.get("fields", ()))) for event in self.runner.run(told())] == self.events


def _with(known: Known, row: Row) -> Known:
    return replace(known, name=row.get("name", known.name), price=Decimal(row.get("price", known.price)))


def _patch(row: Row) -> ItemPatch:
    values = {"external_id": row["externalId"]} | ({"name": row["name"]} if "name" in row else {})
    return ItemPatch.checked(values | ({"price": Decimal(row["price"])} if "price" in row else {}))


def test_agrees_with_its_model() -> None:
    run(CatalogueMachine, settings(SHORTER, stateful_step_count=15))


class RestlessMachine(CatalogueMachine):
    """A fault, planted: a row that says nothing new is written all the same."""

    def __init__(self) -> None:
        super().__init__()
        compare: Any = upserts._compared  # pyright: ignore[reportPrivateUsage]

        def restless(patch: ItemPatch, row: Any) -> Any:
            step = compare(patch, row)
            return step if row is None or step.fields else replace(step, outcome=UpsertOutcome.UPDATED)

        self.patch.setattr(upserts, "_compared", restless)


class DeafMachine(CatalogueMachine):
    """A fault, planted: the subscriber comes back one event too late."""

    async def _follow(self) -> None:
        self.heard += 1
        await super()._follow()


class HastyMachine(CatalogueMachine):
    """A fault, planted: a file that was killed has deleted what it had not come to yet."""

    async def _import(self, rows: list[Row], delete_missing: bool, batches: int | None) -> list[Sequence[Any]]:
        if batches is None:
            return await super()._import(rows, delete_missing, batches)
        return await super()._import(rows[: batches * BATCH_ROWS], delete_missing, None)


@pytest.mark.parametrize("machine", [RestlessMachine, DeafMachine, HastyMachine])
def test_notices_that_it_does_not(machine: type[CatalogueMachine]) -> None:
    with pytest.raises((AssertionError, ExceptionGroup)):
        run(machine, UNSHRUNK)
