"""The GraphQL schema: each root type is the sum of the fields that entities declare in classes named `…Query`, `…Mutation` and `…Subscription`.

An entity's modules are found by being there, so that it is entered nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import strawberry
from strawberry.schema.config import StrawberryConfig

from graph.kit.entity.declaration import check, entity_classes
from graph.kit.scalars import SCALARS

HERE = Path(__file__).parent
NO_ENTITIES = {"kit", "server", "schema", "__main__", "__init__"}


def _classes() -> Iterator[type[Any]]:
    """What the entities' modules declare, in order of these modules' names."""
    for path in sorted([*HERE.glob("*.py"), *HERE.glob("*/*.py")]):
        module = path.relative_to(HERE).with_suffix("").parts
        if module[0] not in NO_ENTITIES:
            name = ".".join(["graph", *module])
            yield from [each for each in vars(import_module(name)).values() if isinstance(each, type) and each.__module__ == name]


def _root(name: str, description: str) -> type[Any]:
    """Raises: TypeError, for a field that two classes declare."""
    shares = tuple(each for each in classes if each.__name__.endswith(name) and hasattr(each, "__strawberry_definition__"))
    declaring: dict[str, str] = {}
    for share in shares:
        for field in share.__strawberry_definition__.fields:
            if (other := declaring.setdefault(field.python_name, share.__name__)) != share.__name__:
                raise TypeError(f"{name}.{field.python_name} is declared twice, by {other} and by {share.__name__}: rename one of them")
    return strawberry.type(type(name, shares, {}), description=description)


classes = list(_classes())
schema = strawberry.Schema(
    _root("Query", "Everything that can be read."),
    _root("Mutation", "Everything that can be changed. Fields run one after the other, each in a transaction of its own."),
    _root("Subscription", "Everything that can be listened to."),
    types=entity_classes(),
    config=StrawberryConfig(scalar_map=SCALARS),
)

executable = schema._schema  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- Strawberry offers no other way to what graphql-core runs

check(executable)
