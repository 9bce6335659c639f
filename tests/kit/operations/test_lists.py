"""A declared root list refuses at import what its table does not bear, in a sentence that says what to do."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
import strawberry

from graph.kit.operations.lists import conditions, equal, order_input, read_list, refers_to
from persistence.files import ALL
from persistence.kit.query.entity_list import Comparison, Condition


def declared(**options: Any) -> None:
    read_list(ALL, scope=None, description="", **options)


def test_words_that_no_column_holds() -> None:
    with pytest.raises(TypeError, match=r"StoredFile has no words to search for: name the column in Entity\(StoredFile, words=…\)"):
        declared(search="Words.")


def test_a_condition_on_no_column() -> None:
    filter_ = strawberry.input(type("Wrong", (), {"__annotations__": {"colour": str | None}, "colour": equal("colour", description="")}))
    with pytest.raises(TypeError, match=r"Wrong\.colour compares colour, which is no column of StoredFile"):
        declared(filter=filter_)


def test_a_field_that_is_no_condition() -> None:
    filter_ = strawberry.input(type("Wrong", (), {"__annotations__": {"colour": str | None}, "colour": None}))
    with pytest.raises(TypeError, match=r"Wrong\.colour is no condition: declare it by equal, at_least, …"):
        declared(filter=filter_)


@pytest.mark.parametrize("attribute", ["colour", "owner_id"])
def test_an_order_by_what_may_be_null_or_is_no_column(attribute: str) -> None:
    order = Enum("WrongField", {"FIRST": attribute})
    with pytest.raises(TypeError, match=f"WrongField.FIRST orders by {attribute}: it must be a column of StoredFile that holds"):
        declared(order=order)


def test_an_order_that_no_index_has() -> None:
    add = r'add Index\("ix_stored_files_sha256", "sha256", "id"\) to its __table_args__, and a migration'
    with pytest.raises(TypeError, match=rf"WrongField\.FIRST orders by sha256, with which no index of StoredFile begins: {add}"):
        declared(order=Enum("WrongField", {"FIRST": "sha256"}))


def test_an_order_is_named_after_its_enum() -> None:
    order = strawberry.enum(Enum("ShelfOrderField", {"NAME": "filename"}))
    made = order_input(order)
    assert made.__name__ == "ShelfOrder"
    assert order_input(order) is made


def test_a_global_id_of_another_type_matches_nothing() -> None:
    filter_: Any = strawberry.input(
        type("Right", (), {"__annotations__": {"owner": strawberry.ID | None}, "owner": refers_to("owner_id", "User", description="")})
    )
    assert conditions(filter_(owner="VXNlcjoz")) == (Condition("owner", "owner_id", Comparison.EQUAL, 3),)
    assert conditions(filter_(owner="SXRlbToz")) == (Condition("owner", "owner_id", Comparison.EQUAL, 0),)
    assert conditions(filter_()) == ()
