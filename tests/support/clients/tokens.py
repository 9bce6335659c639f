"""Logs in, refreshes and revokes tokens, as a client does."""

from __future__ import annotations

import base64
import json
from typing import Any

from graph.kit.auth import Scope
from tests.support.service import PASSWORD, Service

TOKEN = """
mutation Token($name: String!, $password: String!, $scopes: [Scope!]) {
  token(username: $name, password: $password, scopes: $scopes) {
    __typename
    ... on Token { accessToken tokenType expiresIn refreshToken scopes }
    ... on Error { code message }
    ... on InvalidInput { path }
  }
}
"""
REFRESH = """
mutation Refresh($token: String!) {
  refreshToken(refreshToken: $token) {
    __typename
    ... on Token { accessToken refreshToken scopes }
    ... on Error { code message }
  }
}
"""
REVOKE = "mutation ($token: String!) { revokeToken(token: $token) { __typename ... on InvalidInput { path } } }"
ME = "{ me { username } }"
ADA = {"me": {"username": "ada"}}
REFUSED = {"__typename": "InvalidCredentials", "code": "INVALID_CREDENTIALS"}
OTHER_KEY = "another-key-that-only-the-tests-know-9876543210"


async def log_in(service: Service, *scopes: Scope, name: str = "ada", password: str = PASSWORD) -> dict[str, Any]:
    variables = {"name": name, "password": password, "scopes": [scope.name for scope in scopes] or None}
    return (await service.ask(TOKEN, variables))["token"]


async def refresh(service: Service, token: str) -> dict[str, Any]:
    return (await service.ask(REFRESH, {"token": token}))["refreshToken"]


async def revoke(service: Service, token: str) -> None:
    assert await service.ask(REVOKE, {"token": token}) == {"revokeToken": {"__typename": "RevokedToken"}}


async def is_good(service: Service, token: str) -> bool:
    answer = (await service.send(ME, token=token)).json()
    return "errors" not in answer


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    return json.loads(header), json.loads(claims)
