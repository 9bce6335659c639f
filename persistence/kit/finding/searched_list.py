"""Lists that are searched by people: in order of relevance too, and by near words where what was typed is in no row.

The entity's words are made by `tokenizer.marked`, which tells those of a row's first text, such as its name, from the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.finding import relevance
from persistence.kit.finding.near_words import SAMPLE, correct
from persistence.kit.query.entity_list import EntityList, SortOrder
from persistence.kit.query.paging import ComputedKey, OrderedQuery
from persistence.kit.query.ranked import RankedQuery
from persistence.kit.search.tokenizer import Words

RELEVANCE = "relevance"
BY_RELEVANCE = SortOrder(RELEVANCE)


@dataclass(frozen=True)
class SearchedList(EntityList):
    near: Words | None = field(default=None, repr=False)
    """What is searched for in place of `search`, which found nothing; the list's cursors are those of `search`."""
    did_you_mean: str | None = None
    """What would have found these rows, if what was searched for found none."""
    computed_orders = (RELEVANCE,)

    @cached_property
    def words(self) -> Words | None:
        return self.near or super().words

    @cached_property
    def _values(self) -> Mapping[str, Any]:
        words = self._ranked_words
        return super()._values if words is None else {**super()._values, **relevance.values(words)}

    @property
    def computed(self) -> ComputedKey | None:
        words = self._ranked_words
        return None if words is None else relevance.key(self._words_column.key, words)

    @property
    def _ranked_words(self) -> Words | None:
        """By which rows are ranked, if they are; without any word all are as good."""
        return self.words if self.order.attribute == RELEVANCE and self.words is not None and self.words.groups else None

    def listing(self) -> OrderedQuery[Any]:
        if self.order.attribute != RELEVANCE:
            return super().listing()
        by_id = self.but(order=SortOrder(descending=self.order.descending)).listing()
        if (words := self._ranked_words) is None:
            return replace(by_id, fingerprint=self.fingerprint)
        return RankedQuery(
            by_id.statement,
            relevance.rank_of(self._words_column, words),
            by_id.id,
            self.order.descending,
            self.fingerprint,
            computed=self.computed,
            ranks=[self._of_rank(rank, each) for rank, each in enumerate(relevance.ranked(words))],
            by_id=self.but(order=SortOrder()).listing(),
        )

    def _of_rank(self, rank: int, words: Words) -> OrderedQuery[Any]:
        model: Any = self.entity.model
        name, key = relevance.name_of(rank), relevance.key(self._words_column.key, words)
        return OrderedQuery(self._rows(words, name), model.id, model.id, self.order.descending, name, self._scan(words, name), key)

    async def corrected(self, session: AsyncSession, *, empty: bool) -> SearchedList | None:
        """By the words alone: whether they find something does not depend on the conditions."""
        if self.entity.spellings is None or self.search is None or self.words is None or self.near is not None:
            return None

        def rows_of(words: Words) -> Select[Any]:
            return SearchedList(self.entity, near=words).listing().first_rows(SAMPLE).with_only_columns(self._words_column)

        correction = await correct(session, self.entity.spellings, self.search, rows_of, found_nothing=empty and not self.conditions)
        return None if correction is None else self.but(near=correction.words, did_you_mean=correction.query)
