"""People: sign-up, what others see of them, and what an administrator changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.service import Service

SIGNUP = """
mutation SignUp($input: SignupInput!) {
  signup(input: $input) {
    __typename
    ... on User { username fullName email isActive scopes }
    ... on Error { code message }
    ... on InvalidInput { problems { path message } }
  }
}
"""


async def test_signs_up_signs_in_and_is_me(service: Service) -> None:
    made = await service.ask(SIGNUP, {"input": {"username": "Grace", "password": "correct horse", "email": "g@navy.example"}})
    held = ["ITEMS_READ", "ITEMS_WRITE", "FILES_READ", "FILES_WRITE"]
    grace = {"username": "Grace", "fullName": None, "email": "g@navy.example", "isActive": True, "scopes": held}
    assert made["signup"] == {"__typename": "User", **grace}
    query = 'mutation { token(username: "grace", password: "correct horse") { ... on Token { accessToken tokenType expiresIn scopes } } }'
    token = (await service.ask(query))["token"]
    assert (token["tokenType"], token["expiresIn"], token["scopes"]) == ("Bearer", 1800, held)
    me = await service.ask("{ me { username fullName email isActive scopes } }", token=token["accessToken"])
    assert me == {"me": grace}
