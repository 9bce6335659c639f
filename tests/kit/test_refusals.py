"""Expected refusals …"""

from __future__ import annotations

import subprocess
import sys

from graphql import GraphQLEnumType

from graph.kit.errors import Error, code_of
from graph.schema import executable
from tests.support.servers.processes import ROOT

# As an entity of a fork: nothing of the kit is changed for it, and the schema is made after it.
FORK = """
import strawberry
from graph.kit.errors import Error

@strawberry.type
class SupplierClosed(Error):
    reopens: str

from graph import schema
print(SupplierClosed(message="Come back.", reopens="Monday").code)
print("SUPPLIER_CLOSED" in schema.executable.type_map["ErrorCode"].values)
"""


def test_have_each_a_code_of_the_schema_by_their_name() -> None:
    codes = executable.type_map["ErrorCode"]
    assert isinstance(codes, GraphQLEnumType)
    assert set(codes.values) == {code_of(member) for member in Error.__subclasses__()}
    assert {"OUT_OF_STOCK", "INVALID_INPUT", "IDEMPOTENCY_KEY_REUSED"} < set(codes.values)


def test_of_an_entity_need_no_entry_in_the_kit() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr) == ("SUPPLIER_CLOSED\nTrue\n", "")
