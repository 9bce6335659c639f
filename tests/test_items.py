"""The catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.service import Service

CREATE = """
mutation Create($input: CreateItemInput!, $key: String) {
  createItem(input: $input, idempotencyKey: $key) {
    __typename
    ... on Item { id name description price tags inventory inStock version owner { username } }
    ... on InvalidInput { code problems { path message } }
  }
}
"""


async def test_creates_an_item_and_finds_it_again(service: Service) -> None:
    token = await service.sign_in()
    created = await service.ask(CREATE, {"input": {"name": "Kettle", "price": "19.9", "tags": ["kitchen"]}}, token=token)
    expected = {
        "__typename": "Item",
        "id": created["createItem"]["id"],
        "name": "Kettle",
        "description": None,
        "price": "19.90",
        "tags": ["kitchen"],
        "inventory": 0,
        "inStock": False,
        "version": 1,
        "owner": {"username": "ada"},
    }
    assert created["createItem"] == expected
    found = await service.ask("query ($id: ID!) { item(id: $id) { name price } }", {"id": expected["id"]})
    assert found["item"] == {"name": "Kettle", "price": "19.90"}
