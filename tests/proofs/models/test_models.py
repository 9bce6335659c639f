"""Hypothesis makes up sequences of steps, and compares what happens with a model of a few lines: budgets, idempotency keys, pages while
rows change, logins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from persistence import logins, users
from persistence.items import listing
from persistence.items import table as items
from persistence.items.table import ItemValues
from persistence.kit.errors import KeyReused, NotFound
from persistence.kit.idempotency import Attempt
from persistence.kit.limits.token_bucket import Budget, LocalTokenBucket
from persistence.kit.query import entity
from persistence.kit.query.entity_list import SortOrder
from persistence.kit.query.paging import PageArguments
from persistence.logins import TokenClaims, TokenRefusal
from tests.proofs.models.machines import BOUNDED, SHORTER, UNSHRUNK, OnDatabase, run

BUDGET = Budget(capacity=50, per_second=5)


class BudgetMachine(RuleBasedStateMachine):
    """No more than the budget is ever granted, and what is refunded is there again."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.model = 0.0, float(BUDGET.capacity)
        self.bucket: LocalTokenBucket = LocalTokenBucket(BUDGET, lambda: self.now)

    def _change(self, points: float) -> None:
        self.model = min(BUDGET.capacity, self.model - points)

    @rule(points=st.integers(1, 60))
    def charge(self, points: int) -> None:
        state = asyncio.run(self.bucket.charge("caller", points))
        assert state.granted == (points <= self.model)
        if state.granted:
            self._change(points)

    @rule(points=st.integers(0, 60))
    def refund(self, points: int) -> None:
        self.bucket.refund("caller", points)
        self._change(-points)

    @rule(points=st.integers(0, 60))
    def take(self, points: int) -> None:
        self.bucket.take("caller", points)
        self._change(points)

    @rule(eighths=st.integers(0, 100))
    def wait(self, eighths: int) -> None:
        self.now += eighths / 8  # Such as binary numbers keep exactly.
        self.model = min(BUDGET.capacity, self.model + eighths / 8 * BUDGET.per_second)

    @invariant()
    def agrees(self) -> None:
        assert asyncio.run(self.bucket.charge("caller", 0)).points == min(BUDGET.capacity, self.model)


class IdempotencyMachine(OnDatabase):
    """One effect and one answer a key; another request under it is refused; a refusal leaves no key."""

    KEYS: ClassVar = st.sampled_from(["a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        self.effects = 0

    async def _attempt(self, caller: str, key: str, request: int, *, fails: bool) -> Any:
        attempt = Attempt.of(caller=caller, key=key, operation="op", arguments=[request])
        async with self.database.transaction() as work:
            if earlier := await attempt.earlier(work.session):
                return earlier.answer
            item = await items.create(work, ItemValues(f"Item {request}", Decimal(1)), owner_id=None)
            if fails:
                raise _RefusedError
            await work.session.flush()
            await attempt.store(work.session, item.id)
            return item.id

    @rule(caller=st.sampled_from(["ada", "bob"]), key=KEYS, request=st.integers(1, 2), fails=st.booleans())
    def send(self, caller: str, key: str, request: int, fails: bool) -> None:
        known = self.answers.get((caller, key))
        try:
            answer = self.runner.run(self._attempt(caller, key, request, fails=fails))
        except _RefusedError:
            assert known is None
        except KeyReused:
            assert known is not None
            assert known[0] != request
        else:
            if known is None:
                self.effects += 1
                self.answers[caller, key] = request, answer
            else:
                assert known == (request, answer)

    @invariant()
    def has_each_effect_once(self) -> None:
        async def count() -> int:
            async with self.database.reading() as session:
                return await items.count(session)

        assert self.runner.run(count()) == self.effects
        assert len({answer for _, answer in self.answers.values()}) == len(self.answers)


class _RefusedError(Exception):
    pass


class PagingMachine(OnDatabase):
    """Somebody turns pages while rows come, go and change: whoever was there all the time, unchanged, is seen once; nobody is seen twice."""

    def __init__(self) -> None:
        super().__init__()
        self.present: set[int] = set()
        self.order = SortOrder()
        self._begin()

    def _begin(self) -> None:
        self.all_the_time, self.seen, self.cursor, self.at_end = set(self.present), list[int](), None, False

    @initialize(attribute=st.sampled_from(["created_at", "price", "name"]), prices=st.lists(st.integers(1, 5), max_size=12))
    def fill(self, attribute: str, prices: list[int]) -> None:
        self.order = SortOrder(attribute)
        for price in prices:
            self.create(price)
        self._begin()

    @rule(price=st.integers(1, 5))
    def create(self, price: int) -> None:
        async def make() -> int:
            async with self.database.transaction() as work:
                return (await items.create(work, ItemValues(f"Item {price}", Decimal(price)), owner_id=None)).id

        self.present.add(self.runner.run(make()))

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.present)))

        async def delete() -> None:
            async with self.database.transaction() as work:
                await items.delete(work, chosen)

        self.runner.run(delete())
        self.present.discard(chosen)
        self.all_the_time.discard(chosen)

    def page(self, size: int) -> Any:
        async def read() -> Any:
            async with self.database.reading() as session:
                return await entity.page(session, replace(listing.ALL, order=self.order), PageArguments(first=size, after=self.cursor))

        return self.runner.run(read())

    @rule(size=st.integers(1, 4))
    def turn(self, size: int) -> None:
        page = self.page(size)
        found = [row.id for row in page.rows]
        assert len(found) <= size
        assert set(found) <= self.present
        self.seen += found
        assert len(self.seen) == len(set(self.seen))
        if found:
            self.cursor = page.listing.cursor(page.rows[-1])
        if not page.has_next:
            assert self.all_the_time <= set(self.seen)
            self._begin()


@dataclass
class KnownLogin:
    """A login as its owner knows it: the last refresh token works once, and the newest of those that were used end it."""

    user_id: int
    tokens: list[str]
    goes_on: bool = True

    def is_remembered(self, token: str) -> bool:
        return token in self.tokens[-logins.USED_TOKENS - 1 :]


async def _admit(_login_id: str) -> None:
    """As often as anybody likes."""


class LoginMachine(OnDatabase):
    """A refresh token works once; one that comes again ends its login and no other; what has ended stays ended."""

    USERS: ClassVar = st.sampled_from([0, 1])

    def __init__(self) -> None:
        super().__init__()
        self.logins: dict[str, KnownLogin] = {}
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(logins, "USED_TOKENS", 2)  # So that some used tokens are forgotten.
        self.users = [self.runner.run(self._sign_up(name)) for name in ("ada", "bob")]

    def teardown(self) -> None:
        self.patch.undo()
        super().teardown()

    async def _sign_up(self, name: str) -> users.User:
        async with self.database.transaction() as work:
            return await users.sign_up(work, users.SignUpValues(name, "never asked for"), password_hash="no hash", scopes=[])

    async def _refresh(self, token: str) -> str | None:
        async with self.database.transaction() as work:
            issued = await logins.refresh(work, token, admit=_admit)
        return issued.refresh_token if issued else None

    def _drawn(self, data: st.DataObject) -> tuple[str, KnownLogin, str]:
        """A login, and any token that it ever had; most often one of the last."""
        place = data.draw(st.integers(0, len(self.logins) - 1))  # Not the id, which is random.
        login_id, login = list(self.logins.items())[place]
        age = data.draw(st.integers(0, len(login.tokens) - 1))
        return login_id, login, login.tokens[-1 - age]

    @rule(number=USERS)
    def sign_in(self, number: int) -> None:
        async def begin() -> logins.IssuedLogin:
            async with self.database.transaction() as work:
                return await logins.begin(work, self.users[number], scopes=None)

        issued = self.runner.run(begin())
        self.logins[issued.login_id] = KnownLogin(self.users[number].id, [issued.refresh_token])

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), times=st.integers(1, 4))
    def go_on(self, data: st.DataObject, times: int) -> None:
        """As its owner does, who has the newest token."""
        _, login, _ = self._drawn(data)
        for _ in range(times if login.goes_on else 1):
            token = self.runner.run(self._refresh(login.tokens[-1]))
            assert (token is not None) == login.goes_on
            login.tokens += [token] if token else []

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def refresh(self, data: st.DataObject) -> None:
        _, login, token = self._drawn(data)
        following = self.runner.run(self._refresh(token))
        assert (following is not None) == (login.goes_on and token == login.tokens[-1])
        if following is None:
            login.goes_on = login.goes_on and not login.is_remembered(token)
        else:
            login.tokens.append(following)

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def sign_out(self, data: st.DataObject) -> None:
        _, login, token = self._drawn(data)

        async def end() -> None:
            async with self.database.transaction() as work:
                await logins.end(work, token)

        self.runner.run(end())
        login.goes_on = login.goes_on and not login.is_remembered(token)

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), number=USERS)
    def end(self, data: st.DataObject, number: int) -> None:
        """By its id, as a user does who sees a list of logins; another's is not found."""
        login_id, login, _ = self._drawn(data)
        user_id = self.users[number].id

        async def end() -> None:
            async with self.database.transaction() as work:
                await logins.end_own(work, user_id, login_id)

        if login.goes_on and login.user_id == user_id:
            self.runner.run(end())
            login.goes_on = False
        else:
            with pytest.raises(NotFound):
                self.runner.run(end())

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), spared=st.booleans())
    def change_password(self, data: st.DataObject, spared: bool) -> None:
        """All of the user's end, but the one that the change was made in."""
        login_id, chosen, _ = self._drawn(data)

        async def end() -> int:
            async with self.database.transaction() as work:
                return await logins.end_all(work, chosen.user_id, but=login_id if spared else None)

        ended = [
            login
            for id_, login in self.logins.items()
            if login.user_id == chosen.user_id and login.goes_on and not (spared and id_ == login_id)
        ]
        assert self.runner.run(end()) == len(ended)
        for login in ended:
            login.goes_on = False

    @invariant()
    def agrees(self) -> None:
        async def look() -> tuple[list[Any], dict[int, set[str]]]:
            claims = [TokenClaims(login.user_id, "no id", login_id) for login_id, login in self.logins.items()]
            async with self.database.reading() as session:
                shown = await logins.going_on(session, [user.id for user in self.users])
                return await logins.token_statuses(session, claims), {user: {login.id for login in own} for user, own in shown.items()}

        statuses, shown = self.runner.run(look())
        assert [status is not TokenRefusal.ENDED for status in statuses] == [login.goes_on for login in self.logins.values()]
        for user in self.users:
            assert shown[user.id] == {id_ for id_, login in self.logins.items() if login.user_id == user.id and login.goes_on}


@pytest.mark.parametrize(
    ("machine", "how"), [(BudgetMachine, BOUNDED), (IdempotencyMachine, BOUNDED), (PagingMachine, BOUNDED), (LoginMachine, SHORTER)]
)
def test_agrees_with_its_model(machine: type[RuleBasedStateMachine], how: settings) -> None:
    run(machine, how)


class ForgetfulBudgetMachine(BudgetMachine):
    """A fault, planted: what is refunded is lost."""

    def __init__(self) -> None:
        super().__init__()
        setattr(self.bucket, "refund", lambda caller, points: None)  # noqa: B010  # pyright: ignore[reportUnknownLambdaType]


class KeylessMachine(IdempotencyMachine):
    """A fault, planted: every request has a key of its own."""

    async def _attempt(self, caller: str, key: str, request: int, *, fails: bool) -> Any:
        return await super()._attempt(caller, f"{key} {self.runner.get_loop().time()}", request, fails=fails)


class OffsetMachine(PagingMachine):
    """A fault, planted: the next page begins after as many rows as were seen."""

    def page(self, size: int) -> Any:
        self.cursor = None
        everything = super().page(100)
        after = len(self.seen)
        return replace(everything, rows=everything.rows[after : after + size], has_next=len(everything.rows) > after + size)


class LenientMachine(LoginMachine):
    """A fault, planted: a refresh token that comes again is refused, and nothing more."""

    async def _refresh(self, token: str) -> str | None:
        is_newest = any(token == login.tokens[-1] for login in self.logins.values())
        return await super()._refresh(token) if is_newest else None


@pytest.mark.parametrize("machine", [ForgetfulBudgetMachine, KeylessMachine, OffsetMachine, LenientMachine])
def test_notices_that_it_does_not(machine: type[RuleBasedStateMachine]) -> None:
    with pytest.raises((AssertionError, ExceptionGroup)):
        run(machine, UNSHRUNK)
