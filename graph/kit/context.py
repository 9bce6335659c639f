"""The GraphQL context: services that live as long as the process, the caller, and DataLoaders that live as long as one operation.

There is no database session here: resolvers of one operation run side by side, and a session serves one statement at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import strawberry
from graphql import GraphQLError
from strawberry.dataloader import DataLoader

from graph.kit.auth import Caller, Principal, Scope
from graph.kit.errors import FORBIDDEN, UNAUTHENTICATED
from graph.kit.instrumentation import Observer
from persistence.kit.cache.table_versions import EPOCH
from persistence.kit.database.database import Batch, Database, UnitOfWork
from persistence.kit.events.broker import Broker
from persistence.kit.events.feed import Feed
from persistence.kit.idempotency import Attempt
from persistence.kit.serialization import Serializer

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
P = TypeVar("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Services:
    """Made once by the composition root. `ports` holds what only some entities need, by the type that names it."""

    database: Database
    feed: Feed
    broker: Broker
    observer: Observer
    ports: Mapping[type[Any], Any]

    def port(self, kind: type[P]) -> P:
        port: P = self.ports[kind]
        return port


class Loaders:
    """One DataLoader for each batch function, made when it is first used."""

    def __init__(self, database: Database, observer: Observer, *, cache: bool) -> None:
        self._database, self._observer, self._cache = database, observer, cache
        self._by_batch: dict[Callable[..., Any], DataLoader[Any, Any]] = {}

    async def load(self, batch: Batch[K, V], key: K) -> V | None:
        loader = self._by_batch.get(batch)
        if loader is None:
            loader = self._by_batch[batch] = self._loader(batch)
        found: V | None = await loader.load(key)
        return found

    def _loader(self, batch: Batch[K, V]) -> DataLoader[K, V | None]:
        name = f"{batch.__module__.removeprefix('persistence.').removesuffix('.table')}.{batch.__qualname__}"

        async def fetch(keys: list[K]) -> list[V | None]:
            with self._observer.batch(name, len(keys)):
                async with self._database.reading() as session:
                    found = await batch(session, keys)
            return [found.get(key) for key in keys]

        return DataLoader(fetch, cache=self._cache)


@dataclass
class Context:
    """One operation, or one event of a subscription."""

    services: Services
    _caller: Caller
    loaders: Loaders
    extensions: dict[str, Any] = field(default_factory=dict[str, Any])
    personal: bool = False
    """Whether something looked at who asks: what came out may be for their eyes only."""
    scanned: int = 0
    """Points for what fields did beside giving objects, as far as that is known only afterwards."""
    pay: Callable[[int], Awaitable[None]] | None = None
    """Of a subscription: charges for what its source does beside its events, waiting where the budget is empty."""

    @property
    def caller(self) -> Caller:
        self.personal = True
        return self._caller

    @classmethod
    def fresh(cls, services: Services, caller: Caller, *, cache: bool) -> Context:
        """`cache` is for queries only: a mutation reads its own writes, and a socket must not serve yesterday's row."""
        return cls(services, caller, Loaders(services.database, services.observer, cache=cache))

    @property
    def database(self) -> Database:
        return self.services.database

    @property
    def viewer(self) -> Principal | None:
        return self.caller.principal

    async def load(self, batch: Batch[K, V], key: K) -> V | None:
        return await self.loaders.load(batch, key)

    def port(self, kind: type[P]) -> P:
        return self.services.port(kind)

    def holds(self, scope: Scope) -> bool:
        return self.viewer is not None and scope in self.viewer.scopes

    def is_user(self, user_id: int | None) -> bool:
        return self.viewer is not None and self.viewer.user_id == user_id

    def require(self, *scopes: Scope) -> Principal:
        """The signed-in user. Raises: GraphQLError UNAUTHENTICATED without a token, FORBIDDEN without the scopes."""
        if self.viewer is None:
            raise GraphQLError("Sign in first: this field needs a token.", extensions={"code": UNAUTHENTICATED})
        missing = [scope.value for scope in scopes if scope not in self.viewer.scopes]
        if missing:
            raise GraphQLError(f"Your token lacks {' and '.join(missing)}.", extensions={"code": FORBIDDEN})
        return self.viewer

    async def once(
        self,
        command: Callable[[UnitOfWork], Awaitable[T]],
        stored: Serializer[T],
        *,
        key: str | None,
        operation: str,
        arguments: object,
        shortcut: Callable[[Attempt | None], Awaitable[T | None]] | None = None,
    ) -> T:
        """Run a command in its transaction; under an idempotency key, at most once, and the first answer is given again.

        `arguments` tell a repeat from another request under the same key. They are kept as a hash only, but a fast one: no password among them.
        `shortcut` is a shorter way to the same effect, key and answer included; None from it says that it was not to be had.
        """
        attempt = None if key is None else Attempt.of(caller=self.caller.key, key=key, operation=operation, arguments=arguments)
        if shortcut and (answer := await shortcut(attempt)) is not None:
            return answer
        async with self.database.transaction() as work:
            if attempt is None:
                return await command(work)
            if earlier := await attempt.earlier(work.session):
                self.extensions["idempotency"] = {"replayed": True}
                # The process of the first attempt may have died between its commit and the new versions of its tables.
                work.tables.add(EPOCH)
                return stored.load(earlier.answer)
            answer = await command(work)
            await work.session.flush()
            await attempt.store(work.session, stored.dump(answer))
            return answer

    @property
    def replayed(self) -> bool:
        """Whether an answer of this operation is one that was given before."""
        return "idempotency" in self.extensions


Info = strawberry.Info[Context, None]
