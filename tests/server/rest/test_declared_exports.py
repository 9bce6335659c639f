"""The export of a declared entity …"""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from graph.audit import Audit
from graph.kit.auth import Scope
from graph.kit.global_ids import global_id
from graph.kit.operations import exports
from graph.kit.operations.exports import export
from persistence import audit, files
from persistence.audit import AuditEntry

if TYPE_CHECKING:
    from tests.support.service import Service

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def fill(service: Service) -> int:
    """Three entries, the first with what a spreadsheet would run. The actor's id."""
    ada = await service.make_user()
    entries: list[tuple[str, int | None, dict[str, Any]]] = [
        ("=1+1", ada.id, {"fields": ["a", "b"]}),
        ('a "quoted", text', None, {}),
        ("item.deleted", ada.id, {"name": "Łódź"}),
    ]
    async with service.database.transaction() as work:
        for number, (action, actor_id, detail) in enumerate(entries):
            subject = {"subject_kind": "Item", "subject_id": number} if number else {}
            work.session.add(AuditEntry(action=action, actor_id=actor_id, detail=detail, at=MOMENT, **subject))
    return ada.id


async def fetch(service: Service, path: str, *scopes: Scope) -> Any:
    token = await service.sign_in(*scopes or (Scope.AUDIT_READ,), username=f"reader{uuid4().hex[:8]}")
    return await service.http.get(f"/api/v2/stream/{path}", headers={"Authorization": f"Bearer {token}"})


async def test_has_the_names_and_forms_of_the_type(service: Service) -> None:
    ada = await fill(service)
    answer = await fetch(service, "audit.json?limit=2")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["content-disposition"] == 'attachment; filename="audit.json"'
    last, middle = answer.json()
    assert last == {
        "id": last["id"],
        "action": "item.deleted",
        "subject": global_id("Item", 2),
        "detail": {"name": "Łódź"},
        "at": "2026-01-02T03:04:05+00:00",
        "actorId": global_id("User", ada),
    }
    assert (middle["actorId"], middle["subject"], middle["detail"]) == (None, global_id("Item", 1), {})


async def test_is_csv_that_reads_back_and_that_no_spreadsheet_runs(service: Service) -> None:
    await fill(service)
    answer = await fetch(service, "audit.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert list(rows[0]) == ["id", "action", "subject", "detail", "at", "actorId"]
    assert [row["action"] for row in rows] == ["item.deleted", 'a "quoted", text', "'=1+1"]
    assert (rows[2]["detail"], rows[2]["subject"], rows[1]["actorId"]) == ('{"fields": ["a", "b"]}', "", "")
    raw = list(csv.DictReader(io.StringIO((await fetch(service, "audit.csv?raw=1")).text, newline="")))
    assert raw[2]["action"] == "=1+1"


async def test_has_a_header_or_an_empty_list_without_rows(service: Service) -> None:
    assert (await fetch(service, "audit.csv")).text == "id,action,subject,detail,at,actorId\r\n"
    assert (await fetch(service, "audit.json")).text == "[]\n"


async def test_is_refused_without_its_scope_and_for_a_bad_limit(service: Service) -> None:
    assert (await fetch(service, "audit.csv", Scope.ITEMS_READ)).status_code == 403
    assert (await service.http.get("/api/v2/stream/audit.json")).status_code == 401
    assert (await fetch(service, "audit.json?limit=0")).json()["error"]["code"] == "BAD_USER_INPUT"


def test_takes_the_scope_that_its_rows_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_exports", [])
    assert [column.name for column in export(audit.ALL, "audit", scope=Scope.AUDIT_READ).columns()][:2] == ["id", "action"]
    with pytest.raises(TypeError, match="The export files would show rows that take files:read: give it that scope"):
        export(files.ALL, "files", scope=Scope.ITEMS_READ).columns()
    assert Audit.__name__ == exports.name_of(audit.ENTITY)
