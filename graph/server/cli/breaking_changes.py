"""Detects breaking changes of the schema that CHANGELOG.md does not announce.

The promise is the schema of the last release: of the newest tag. Before the first there is only the last commit's, so that nobody breaks a client by
accident. A change that is meant is announced in CHANGELOG.md, in the words that the check prints.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from graphql import GraphQLSchema, build_schema, find_breaking_changes


@dataclass(frozen=True)
class Baseline:
    """A schema that clients may be written against, and the revision it is from; None if there is none."""

    name: str
    schema: str | None


def baseline(root: Path) -> Baseline:
    name = (_git(root, "describe", "--tags", "--abbrev=0") or "HEAD").strip()
    return Baseline(name, _git(root, "show", f"{name}:schema.graphql"))


def undocumented(before: str | None, now: str, changelog: str) -> list[str]:
    """Breaking changes that the change log does not tell of, in graphql-core's words."""
    if before is None:
        return []
    changes = find_breaking_changes(_built(before), _built(now))
    return [change.description for change in changes if f"Breaking: {change.description}" not in changelog]


def _built(text: str) -> GraphQLSchema:
    return build_schema(text, assume_valid=True)


def _git(root: Path, *arguments: str) -> str | None:
    """What git says; None outside a checkout, or where it knows no such thing."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603, S607 -- our own words; git is wherever it is
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
