"""Thai and Lao words are one however their ring and tone were typed, and `ʉ` is found by `u`.

The words of rows with other letters than those of ASCII are made again, as by 0016.
"""

from __future__ import annotations

from importlib import import_module

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    import_module("persistence.migrations.versions.0016_letters_that_languages_share").upgrade()


def downgrade() -> None:
    """The words stay, as there."""
