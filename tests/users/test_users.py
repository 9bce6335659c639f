"""People: how they sign up, what others see of them, and what an administrator changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import select

from graph.kit.auth import Scope
from graph.kit.global_ids import global_id
from persistence import audit, users
from persistence.items import table as items
from tests.support.service import PASSWORD, Service

Statements = Callable[[], AbstractContextManager[list[str]]]

SIGNUP = """
mutation SignUp($input: SignupInput!) {
  signup(input: $input) {
    __typename
    ... on User { username fullName email isActive scopes }
    ... on Error { code message }
    ... on InvalidInput { path problems { path } }
  }
}
"""
GOOD = {"username": "Grace", "password": "correct horse"}
AT_SIGNUP = ["ITEMS_READ", "ITEMS_WRITE", "FILES_READ", "FILES_WRITE"]  # In development mode.
GRANT = (
    "mutation ($name: String!, $scopes: [Scope!]!) { grantScopes(username: $name, scopes: $scopes) { __typename ... on User { scopes } } }"
)
REVOKE = (
    "mutation ($name: String!, $scopes: [Scope!]!) { revokeScopes(username: $name, scopes: $scopes) { __typename ... on User { scopes } } }"
)
DEACTIVATE = (
    "mutation ($name: String!) { deactivateUser(username: $name) { __typename ... on User { isActive } ... on InvalidInput { path } } }"
)
REACTIVATE = "mutation ($name: String!) { reactivateUser(username: $name) { __typename ... on User { isActive } } }"
ME = "{ me { username email isActive scopes } }"
CREATE = 'mutation { createItem(input: { name: "Toaster", price: "5", inventory: 3 }) { ... on Item { id } } }'
LIST = """
query List($search: String, $first: Int, $after: String, $last: Int, $before: String, $items: Int) {
  users(search: $search, first: $first, after: $after, last: $last, before: $before) {
    nodes { username items(first: $items) { nodes { name } totalCount pageInfo { hasNextPage } } }
    pageInfo { hasNextPage endCursor startCursor }
    totalCount
  }
}
"""


async def names(service: Service) -> list[str]:
    async with service.database.reading() as session:
        return list(await session.scalars(select(users.User.username).order_by(users.User.id)))


async def stored(service: Service, username: str) -> users.User:
    async with service.database.reading() as session:
        return (await users.by_username(session, [username]))[username]


async def make_items(service: Service, owner: users.User, *item_names: str) -> None:
    async with service.database.transaction() as work:
        for name in item_names:
            await items.create(work, items.ItemValues(name, items.CENT), owner_id=owner.id)


async def test_sign_up_and_sign_in_and_are_me(service: Service) -> None:
    given = {"username": "Grace", "password": "correct horse", "email": "g@navy.example", "fullName": "Grace Hopper"}
    seen = {"username": "Grace", "fullName": "Grace Hopper", "email": "g@navy.example", "isActive": True, "scopes": AT_SIGNUP}
    assert (await service.ask(SIGNUP, {"input": given}))["signup"] == {"__typename": "User", **seen}
    query = 'mutation { token(username: "grace", password: "correct horse") { ... on Token { accessToken } } }'
    token = (await service.ask(query))["token"]["accessToken"]
    assert (await service.ask("{ me { username fullName email isActive scopes } }", token=token))["me"] == seen


async def test_keep_no_password(service: Service) -> None:
    await service.ask(SIGNUP, {"input": GOOD})
    kept = await stored(service, "Grace")
    assert kept.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert "correct horse" not in str(vars(kept))


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({"username": "ab"}, [["username"]]),
        ({"username": "a" * 33}, [["username"]]),
        ({"username": "_ada"}, [["username"]]),
        ({"username": "ada lovelace"}, [["username"]]),
        ({"username": "аda"}, [["username"]]),  # noqa: RUF001 -- the first letter is Cyrillic
        ({"username": "ada\x00"}, [["username"]]),
        ({"username": "ada\n"}, [["username"]]),
        ({"password": "1234567"}, [["password"]]),
        ({"password": "x" * 129}, [["password"]]),
        ({"password": "        "}, [["password"]]),
        ({"password": "12345678\x00"}, [["password"]]),
        ({"username": "ada.lovelace", "password": "Ada.Lovelace"}, [["password"]]),
        ({"email": "ada"}, [["email"]]),
        ({"email": "ada@example"}, [["email"]]),
        ({"email": "a@b@example.com"}, [["email"]]),
        ({"email": "ada @example.com"}, [["email"]]),
        ({"email": "ada@exam\x00ple.com"}, [["email"]]),
        ({"email": ""}, [["email"]]),
        ({"email": f"ada@{'x' * 250}.example"}, [["email"]]),
        ({"fullName": "  "}, [["fullName"]]),
        ({"fullName": "x" * 201}, [["fullName"]]),
        ({"fullName": "A\x1bda"}, [["fullName"]]),
        ({"username": "", "password": "", "email": "", "fullName": ""}, [["username"], ["password"], ["fullName"], ["email"]]),
    ],
)
async def test_are_refused_when_a_value_is_out_of_bounds(embedded: Service, changes: dict[str, str], paths: list[list[str]]) -> None:
    refused = (await embedded.ask(SIGNUP, {"input": GOOD | changes}))["signup"]
    assert refused["__typename"] == "InvalidInput"
    assert [problem["path"] for problem in refused["problems"]] == paths
    assert await names(embedded) == []


async def test_may_have_names_and_passwords_at_their_bounds(service: Service) -> None:
    for username, password in (("a-1", "12345678"), ("a" * 32, "ü" * 128)):
        made = (await service.ask(SIGNUP, {"input": {"username": username, "password": password}}))["signup"]
        assert made["username"] == username
        query = "mutation ($u: String!, $p: String!) { token(username: $u, password: $p) { __typename } }"
        assert (await service.ask(query, {"u": username, "p": password}))["token"] == {"__typename": "Token"}


async def test_cannot_take_a_name_twice_in_another_case(service: Service) -> None:
    await service.make_user("Grace")
    refused = (await service.ask(SIGNUP, {"input": GOOD | {"username": "gRACE"}}))["signup"]
    assert (refused["__typename"], refused["code"]) == ("UsernameTaken", "USERNAME_TAKEN")
    assert await names(service) == ["Grace"]


async def test_get_a_name_once_when_many_want_it_at_once(service: Service) -> None:
    answers = await asyncio.gather(*(service.ask(SIGNUP, {"input": GOOD}) for _ in range(5)))
    outcomes = sorted(answer["signup"]["__typename"] for answer in answers)
    assert outcomes == ["User", *["UsernameTaken"] * 4]
    assert await names(service) == ["Grace"]


async def test_keep_email_activity_and_scopes_to_themselves(service: Service) -> None:
    ada = await service.make_user("ada", (Scope.ITEMS_READ,), email="ada@example.com")
    await make_items(service, ada, "Kettle")
    reader = await service.sign_in(Scope.USERS_READ, username="reader")
    other = await service.sign_in(Scope.ITEMS_READ, username="other")
    own = service.tokens.issue(ada.id, [])
    query = "{ items { nodes { owner { username email isActive scopes } } } }"
    closed = {"username": "ada", "email": None, "isActive": None, "scopes": None}
    opened = {"username": "ada", "email": "ada@example.com", "isActive": True, "scopes": ["ITEMS_READ"]}
    for token, seen in ((None, closed), (other, closed), (own, opened), (reader, opened)):
        assert (await service.ask(query, token=token))["items"]["nodes"][0]["owner"] == seen


async def test_are_found_by_id_by_themselves_by_readers_and_as_owners(service: Service) -> None:
    ada = await service.make_user("ada", ())
    reader = await service.sign_in(Scope.USERS_READ, username="reader")
    own, query = service.tokens.issue(ada.id, []), "query ($id: ID!) { node(id: $id) { ... on User { username } } }"
    variables = {"id": global_id("User", ada.id)}
    assert (await service.ask(query, variables))["node"] is None
    for token in (own, reader):
        assert (await service.ask(query, variables, token=token))["node"] == {"username": "ada"}
    await make_items(service, ada, "Kettle")
    assert (await service.ask(query, variables))["node"] == {"username": "ada"}
    async with service.database.transaction() as work:
        await items.delete(work, (await work.session.scalars(select(items.Item.id))).one())
    assert (await service.ask(query, variables))["node"] is None


async def test_are_found_by_name_in_any_case(service: Service) -> None:
    reader, query = (
        await service.sign_in(Scope.USERS_READ, username="Reader"),
        "query ($name: String!) { user(username: $name) { username } }",
    )
    assert (await service.ask(query, {"name": "rEADER"}, token=reader))["user"] == {"username": "Reader"}
    for name in ("nobody", "", "x" * 10_000, "\x00"):
        assert (await service.ask(query, {"name": name}, token=reader))["user"] is None


async def test_are_listed_in_order_of_name_page_by_page_both_ways(service: Service) -> None:
    token = await service.sign_in(Scope.USERS_READ, username="mia")
    for name in ("Zoe", "bob", "Abe"):
        await service.make_user(name)
    first = (await service.ask(LIST, {"first": 3}, token=token))["users"]
    assert [user["username"] for user in first["nodes"]] == ["Abe", "bob", "mia"]
    assert (first["pageInfo"]["hasNextPage"], first["totalCount"]) == (True, 4)
    rest = (await service.ask(LIST, {"first": 3, "after": first["pageInfo"]["endCursor"]}, token=token))["users"]
    assert [user["username"] for user in rest["nodes"]] == ["Zoe"]
    back = (await service.ask(LIST, {"last": 2, "before": rest["pageInfo"]["startCursor"]}, token=token))["users"]
    assert [user["username"] for user in back["nodes"]] == ["bob", "mia"]
    assert await service.refused(LIST, {"search": "a", "after": first["pageInfo"]["endCursor"]}, token=token) == "BAD_USER_INPUT"


async def test_are_searched_by_username_full_name_and_email(service: Service) -> None:
    token = await service.sign_in(Scope.USERS_READ, username="reader")
    await service.make_user("lovelace", full_name="Ada Byron", email="ada@analytical.example")
    await service.make_user("grace_hopper", full_name="Grâce")
    for search, found in (
        ("ADA", ["lovelace"]),
        ("hop", ["grace_hopper"]),
        ("grace", ["grace_hopper"]),
        ("analyt", ["lovelace"]),
        ("xyz", []),
    ):
        listed = (await service.ask(LIST, {"search": search}, token=token))["users"]
        assert ([user["username"] for user in listed["nodes"]], listed["totalCount"]) == (found, len(found))


async def test_show_their_items_at_the_same_cost_for_three_users_and_for_thirty(service: Service, statements: Statements) -> None:
    token = await service.sign_in(Scope.USERS_READ, username="zz-reader")
    for number in range(30):
        await make_items(service, await service.make_user(f"user{number:02}"), f"first of {number}", f"second of {number}")
    sent: dict[int, list[str]] = {}
    for number in (3, 30):
        with statements() as sent[number]:
            listed = (await service.ask(LIST, {"first": number, "items": 1}, token=token))["users"]["nodes"]
        assert [user["username"] for user in listed] == [f"user{place:02}" for place in range(number)]
        assert [user["items"] for user in listed] == [
            {"nodes": [{"name": f"first of {place}"}], "totalCount": 2, "pageInfo": {"hasNextPage": True}} for place in range(number)
        ]
    assert [len(sent[number]) for number in (3, 30)] == [2, 2]  # The users, and their items: each with their totals.


async def test_show_their_purchases_to_themselves_and_to_readers_at_the_same_cost_for_all(service: Service, statements: Statements) -> None:
    reader = await service.sign_in(Scope.USERS_READ, username="zz-reader")
    item, query = await service.make_item(inventory=100), "mutation ($id: ID!) { purchaseItem(itemId: $id) { __typename } }"
    tokens = [await service.sign_in(Scope.ITEMS_READ, username=f"user{number}") for number in range(6)]
    for token in [*tokens, *tokens]:
        await service.ask(query, {"id": item}, token=token)
    listed = "query ($n: Int) { users(first: $n) { nodes { purchases(first: 1) { nodes { buyer { username } } totalCount } } } }"
    sent: dict[int, list[str]] = {}
    for number in (2, 6):
        with statements() as sent[number]:
            found = (await service.ask(listed, {"n": number}, token=reader))["users"]["nodes"]
        assert [user["purchases"] for user in found] == [
            {"nodes": [{"buyer": {"username": f"user{place}"}}], "totalCount": 2} for place in range(number)
        ]
    assert [len(sent[number]) for number in (2, 6)] == [2, 2]  # The users, and their purchases with the buyers and the totals.
    own = "{ me { purchases { nodes { quantity } totalCount } } }"
    assert (await service.ask(own, token=tokens[0]))["me"]["purchases"] == {"nodes": [{"quantity": 1}] * 2, "totalCount": 2}


async def test_do_not_show_their_purchases_to_others(service: Service) -> None:
    seller, buyer = await service.sign_in(username="seller"), await service.make_user("buyer", (Scope.ITEMS_READ,))
    item = (await service.ask(CREATE, token=seller))["createItem"]["id"]
    await make_items(service, buyer, "Kettle")
    bought = "mutation ($id: ID!) { purchaseItem(itemId: $id) { ... on Purchase { id } } }"
    id_ = (await service.ask(bought, {"id": item}, token=service.tokens.issue(buyer.id, [])))["purchaseItem"]["id"]
    stranger = await service.sign_in(Scope.ITEMS_READ, username="stranger")
    query = """
    query ($id: ID!) {
      items(search: "Kettle") { nodes { owner { purchases { nodes { id } edges { cursor } totalCount pageInfo { endCursor } } } } }
      node(id: $id) { id }
    }
    """
    nothing: dict[str, Any] = {"nodes": [], "edges": [], "totalCount": 0, "pageInfo": {"endCursor": None}}
    for token in (None, stranger):
        seen = await service.ask(query, {"id": id_}, token=token)
        assert seen == {"items": {"nodes": [{"owner": {"purchases": nothing}}]}, "node": None}
    assert (await service.ask(query, {"id": id_}, token=seller))["node"] == {"id": id_}


async def test_page_through_each_others_items_with_cursors_of_their_own(service: Service) -> None:
    reader = await service.sign_in(Scope.USERS_READ, username="zoe")
    for name in ("ada", "bob"):
        await make_items(service, await service.make_user(name), *(f"{name} {number}" for number in range(5)))
    query = """
    query ($first: Int, $after: String, $last: Int, $before: String) {
      users(first: 2) { nodes { items(first: $first, after: $after, last: $last, before: $before) { edges { cursor node { name } } } } }
    }
    """

    async def pages(**window: Any) -> list[list[str]]:
        listed = (await service.ask(query, window, token=reader))["users"]["nodes"]
        return [[edge["node"]["name"] for edge in user["items"]["edges"]] for user in listed]

    assert await pages(first=2) == [["ada 0", "ada 1"], ["bob 0", "bob 1"]]
    assert await pages(last=2) == [["ada 3", "ada 4"], ["bob 3", "bob 4"]]
    assert await pages(first=0) == [[], []]
    one = "query ($after: String, $id: ID!) { node(id: $id) { ... on User { items(first: 3, after: $after) { edges { cursor node { name } } } } } }"
    ada = {"id": global_id("User", (await stored(service, "ada")).id)}
    edges = (await service.ask(one, ada))["node"]["items"]["edges"]
    following = (await service.ask(one, ada | {"after": edges[-1]["cursor"]}))["node"]["items"]["edges"]
    assert [edge["node"]["name"] for edge in edges + following] == [f"ada {number}" for number in range(5)]
    bob = {"id": global_id("User", (await stored(service, "bob")).id), "after": edges[0]["cursor"]}
    assert await service.refused(one, bob) == "BAD_USER_INPUT"


async def test_hold_more_after_a_grant_once_they_refresh(service: Service) -> None:
    admin = await service.sign_in(username="admin")
    user = await service.make_user("ada", (Scope.ITEMS_READ,))
    granted = await service.ask(GRANT, {"name": "ADA", "scopes": ["FILES_READ", "ITEMS_READ"]}, token=admin)
    assert granted["grantScopes"] == {"__typename": "User", "scopes": ["ITEMS_READ", "FILES_READ"]}
    old = service.tokens.issue(user.id, [Scope.ITEMS_READ])
    assert (await service.ask(ME, token=old))["me"]["scopes"] == ["ITEMS_READ", "FILES_READ"]
    assert await service.refused("{ files { totalCount } }", token=old) == "FORBIDDEN"
    new = service.tokens.issue(user.id, [Scope.ITEMS_READ, Scope.FILES_READ])
    assert await service.ask("{ files { totalCount } }", token=new) == {"files": {"totalCount": 0}}


@pytest.mark.parametrize("mutation", [GRANT, REVOKE])
async def test_cannot_be_given_or_denied_what_the_administrator_does_not_hold(service: Service, mutation: str) -> None:
    lesser = await service.sign_in(Scope.USERS_WRITE, username="lesser")
    await service.make_user("ada", (Scope.AUDIT_READ,))
    for scopes in (["ITEMS_WRITE"], ["USERS_WRITE", "AUDIT_READ"]):
        assert await service.refused(mutation, {"name": "ada", "scopes": scopes}, token=lesser) == "FORBIDDEN"
        assert await service.refused(mutation, {"name": "lesser", "scopes": scopes}, token=lesser) == "FORBIDDEN"
    assert ((await stored(service, "ada")).scopes, (await stored(service, "lesser")).scopes) == (["audit:read"], ["users:write"])


async def test_lose_scopes_at_once(service: Service) -> None:
    admin, ada = await service.sign_in(username="admin"), await service.sign_in(username="ada")
    assert await service.ask("{ users { totalCount } }", token=ada) == {"users": {"totalCount": 2}}
    await service.ask(REVOKE, {"name": "ada", "scopes": ["USERS_READ"]}, token=admin)
    assert await service.refused("{ users { totalCount } }", token=ada) == "FORBIDDEN"


async def test_are_shut_out_at_once_and_let_in_again(service: Service) -> None:
    admin, ada = await service.sign_in(username="admin"), await service.sign_in(username="ada")
    assert (await service.ask(ME, token=ada))["me"]["isActive"] is True
    assert (await service.ask(DEACTIVATE, {"name": "ada"}, token=admin))["deactivateUser"] == {"__typename": "User", "isActive": False}
    assert await service.refused(ME, token=ada) == "UNAUTHENTICATED"
    sign_in = 'mutation ($p: String!) { token(username: "ada", password: $p) { __typename } }'
    assert (await service.ask(sign_in, {"p": PASSWORD}))["token"] == {"__typename": "InvalidCredentials"}
    assert (await service.ask(REACTIVATE, {"name": "ada"}, token=admin))["reactivateUser"] == {"__typename": "User", "isActive": True}
    assert (await service.ask(sign_in, {"p": PASSWORD}))["token"] == {"__typename": "Token"}


async def test_cannot_shut_out_themselves_or_somebody_who_may_do_more(service: Service) -> None:
    lesser = await service.sign_in(Scope.USERS_WRITE, username="lesser")
    await service.make_user("admin")
    refused = (await service.ask(DEACTIVATE, {"name": "lesser"}, token=lesser))["deactivateUser"]
    assert refused == {"__typename": "InvalidInput", "path": ["username"]}
    assert await service.refused(DEACTIVATE, {"name": "admin"}, token=lesser) == "FORBIDDEN"
    assert [(await stored(service, name)).is_active for name in ("lesser", "admin")] == [True, True]


@pytest.mark.parametrize("mutation", [GRANT, REVOKE, DEACTIVATE, REACTIVATE])
async def test_that_do_not_exist_cannot_be_changed(service: Service, mutation: str) -> None:
    admin = await service.sign_in(username="admin")
    for name in ("nobody", "", "x" * 10_000, "\x00"):
        (result,) = (
            await service.ask(mutation, {"name": name, "scopes": ["ITEMS_READ"]} if "scopes" in mutation else {"name": name}, token=admin)
        ).values()
        assert result["__typename"] == "NotFound"
    async with service.database.reading() as session:
        assert await audit.count(session) == 0


async def held(service: Service, *names: str) -> list[tuple[bool, list[str]]]:
    found = [await stored(service, name) for name in names]
    return [(user.is_active, user.scopes) for user in found]


@pytest.mark.parametrize("mutation", [REVOKE, DEACTIVATE, REACTIVATE])
@pytest.mark.parametrize("more", [Scope.AUDIT_READ, Scope.USERS_READ])
async def test_who_may_do_more_are_beyond_an_administrator_who_may_do_less(service: Service, mutation: str, more: Scope) -> None:
    """And what more they may do is not told."""
    lesser = await service.sign_in(Scope.USERS_WRITE, username="lesser")
    await service.make_user("admin", (Scope.USERS_WRITE, more))
    before = await held(service, "admin", "lesser")
    answer = (await service.send(mutation, {"name": "admin", "scopes": ["USERS_WRITE"]}, token=lesser)).json()
    (error,) = answer["errors"]
    assert (error["message"], error["extensions"]) == ("That user may do what your token may not.", {"code": "FORBIDDEN"})
    assert await held(service, "admin", "lesser") == before
    assert await service.count("audit_entries") == [0]


async def test_are_beyond_a_token_that_carries_less_than_its_owner_holds(service: Service) -> None:
    admin, _ = await service.make_user("admin"), await service.make_user("ada")
    narrow = service.tokens.issue(admin.id, [Scope.USERS_WRITE])
    for name in ("ada", "admin"):
        assert await service.refused(REVOKE, {"name": name, "scopes": ["USERS_WRITE"]}, token=narrow) == "FORBIDDEN"


@pytest.mark.parametrize("mutation", [GRANT, REVOKE])
async def test_are_not_shown_for_a_change_of_nothing(service: Service, mutation: str) -> None:
    lesser = await service.sign_in(Scope.USERS_WRITE, username="lesser")
    await service.make_user("ada", full_name="Ada Lovelace")
    mutation = mutation.replace("... on User { scopes }", "... on User { fullName } ... on InvalidInput { path problems { message } }")
    answers = [await service.ask(mutation, {"name": name, "scopes": []}, token=lesser) for name in ("ada", "nobody", "lesser", "")]
    refused = {"__typename": "InvalidInput", "path": ["scopes"], "problems": [{"message": "must name one scope or more"}]}
    assert [[*answer.values()] for answer in answers] == [[refused]] * 4
    assert await service.count("audit_entries") == [0]


async def test_keep_one_who_may_change_them(service: Service) -> None:
    last = "mutation ($name: String!, $scopes: [Scope!]!) { revokeScopes(username: $name, scopes: $scopes) { __typename ... on InvalidInput { message } } }"
    admin = await service.sign_in(username="admin")
    await service.make_user("former")
    async with service.database.transaction() as work:
        await users.set_active(work, "former", active=False)  # Holds the scope, and can do nothing with it.
    await service.make_user("plain", (Scope.USERS_READ,))
    message = "username: must not be the last who holds users:write: grant it to another user first"
    for scopes in (["USERS_WRITE"], ["ITEMS_READ", "USERS_WRITE"]):
        refused = await service.ask(last, {"name": "Admin", "scopes": scopes}, token=admin)
        assert refused == {"revokeScopes": {"__typename": "InvalidInput", "message": message}}
    assert "users:write" in (await stored(service, "admin")).scopes
    assert (await service.ask(REVOKE, {"name": "admin", "scopes": ["ITEMS_READ"]}, token=admin))["revokeScopes"]["__typename"] == "User"
    assert (await service.ask(DEACTIVATE, {"name": "plain"}, token=admin))["deactivateUser"]["__typename"] == "User"
    assert (await service.ask(DEACTIVATE, {"name": "admin"}, token=admin))["deactivateUser"]["__typename"] == "InvalidInput"
    assert (await stored(service, "admin")).is_active
    second = await service.sign_in(username="second")
    assert (await service.ask(REVOKE, {"name": "second", "scopes": ["USERS_WRITE"]}, token=second))["revokeScopes"]["__typename"] == "User"


async def test_who_shut_out_each_other_at_once_leave_one(service: Service) -> None:
    names = [f"admin{number}" for number in range(4)]
    tokens = [await service.sign_in(username=name) for name in names]
    for mutation in (REVOKE, DEACTIVATE):
        answers = await asyncio.gather(
            *(
                service.send(mutation, {"name": names[(number + 1) % 4], "scopes": ["USERS_WRITE"]}, token=token)
                for number, token in enumerate(tokens)
            )
        )
        assert {answer.status_code for answer in answers} <= {200, 401, 403}
        assert not any("INTERNAL" in answer.text for answer in answers)
        left = [name for name in names if (await stored(service, name)).is_active and "users:write" in (await stored(service, name)).scopes]
        assert left


SIGNUP_ONCE = 'mutation ($i: SignupInput!) { signup(input: $i, idempotencyKey: "k") { __typename ... on User { username email scopes } ... on Error { code } } }'


async def test_sign_up_again_under_a_key_only_with_their_password(service: Service) -> None:
    given = GOOD | {"email": "g@navy.example"}
    first = (await service.ask(SIGNUP_ONCE, {"i": given}))["signup"]
    assert first == {"__typename": "User", "username": "Grace", "email": "g@navy.example", "scopes": AT_SIGNUP}
    assert (await service.ask(SIGNUP_ONCE, {"i": given}))["signup"] == first
    for password in ("wrong horse", "correct horse ", "correct hors", "x" * 128):
        refused = (await service.ask(SIGNUP_ONCE, {"i": given | {"password": password}}))["signup"]
        assert refused == {"__typename": "IdempotencyKeyReused", "code": "IDEMPOTENCY_KEY_REUSED"}
    assert await names(service) == ["Grace"]
