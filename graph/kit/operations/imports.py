"""Imports of an entity's rows from CSV, TSV and JSON Lines, declared: `POST /api/v2/import/reviews`, and `import FILE --into reviews` at the command line.

    importing(reviews.IMPORT, "reviews", scope=Scope.ITEMS_READ, others=Scope.USERS_WRITE)

Columns have the names and forms of the entity's export. `others` is the scope with which rows of other users may be changed, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from graph.kit.auth import Scope
from graph.kit.context import Context
from graph.kit.entity.declaration import name_of, type_name_of
from persistence.kit.errors import InvalidInput
from persistence.kit.imports.entity_import import EntityImport
from persistence.kit.imports.file_sync import DeletingTarget, ImportTarget, SyncOptions


@dataclass(frozen=True)
class Import:
    target: ImportTarget
    name: str
    scope: Scope | None
    others: Scope | None = None

    def options(self, match: str, *, delete_missing: bool, dry_run: bool) -> SyncOptions:
        """Raises: InvalidInput, for what this entity does not offer."""
        matches = self.target.form.matches()
        if match not in matches:
            raise InvalidInput.at("match", f"must be one of {', '.join(matches)}")
        if delete_missing and not isinstance(self.target, DeletingTarget):
            raise InvalidInput.at("delete-missing", f"is not offered for {self.name}")
        if delete_missing and match == "none":
            raise InvalidInput.at("delete-missing", f"needs {' or '.join(f'match={name}' for name in matches if name != 'none')}")
        return SyncOptions(matches[match], delete_missing, dry_run)

    def of_viewer(self, options: SyncOptions, context: Context) -> SyncOptions:
        """The same by whoever asks, whose the new rows are."""
        user_id = context.require().user_id
        of_others = self.others is not None and context.holds(self.others)
        return replace(options, owner_id=user_id, actor_id=user_id, of_others=of_others)


_imports: dict[str, Import] = {}


def imports() -> Mapping[str, Import]:
    """All that have been declared, by their names."""
    return _imports


def importing(target: ImportTarget, name: str, *, scope: Scope | None, others: Scope | None = None) -> Import:
    """Declare an import under a name. Without a scope, any signed-in user may import."""
    if isinstance(target, EntityImport):
        target = target.named(name_of(target.entity), type_name_of)
    _imports[name] = declared = Import(target, name, scope, others)
    return declared
