"""`ErrorCode`: one code for each type that implements `Error`, by the type's name.

Strawberry imports this module when it makes the schema. By then every entity has declared its refusals, so none is listed here, and importing it
any sooner would leave some out.
"""

from __future__ import annotations

from enum import Enum
from typing import cast

import strawberry

from graph.kit.errors import Error, code_of

_codes = sorted(code_of(member) for member in Error.__subclasses__())
ErrorCode: type[Enum] = strawberry.enum(
    cast("type[Enum]", Enum("ErrorCode", dict(zip(_codes, _codes, strict=True)))),
    description="Why a mutation was refused, for programs.",
)
