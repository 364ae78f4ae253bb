"""Who asks, what every answer carries, and how large a body may be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .accounts import Account
from .errors import ApiError
from .state import State

COOKIE = "gallery_session"
MAX_JSON = 2**20
GUESSES = 20
"""Wrong keys a minute from one address."""

_HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}


def state_of(request: Request) -> State:
    """The server that a request came to."""
    state: State = request.app.state.gallery
    return state


GetState = Annotated[State, Depends(state_of)]


def address(request: Request) -> str:
    """Where a request came from."""
    return request.client.host if request.client else "unknown"


def refuse_guessing(request: Request, state: State) -> None:
    """Slow down whoever tries keys."""
    state.rate.take(f"guess {address(request)}", GUESSES)


def account_of(request: Request, state: GetState) -> Account:
    """Whose key or session a request has.

    Raises:
        ApiError: 401 none, or a wrong one. 403 a page of another site made the browser ask. 429 too many.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if key:
        account = state.accounts.by_key(key.strip()) if scheme.lower() == "bearer" else None
    else:
        token = request.cookies.get(COOKIE)
        account = state.accounts.by_session(token) if token else None
        if account is not None and request.method not in ("GET", "HEAD"):
            same_origin(request)
    if account is None:
        if key:
            refuse_guessing(request, state)
        raise ApiError(401, "no_key", "send an API key: Authorization: Bearer gs_...", {"WWW-Authenticate": "Bearer"})
    if account.policy not in state.config.policies:
        raise ApiError(403, "no_policy", f"your key has the policy {account.policy!r}, which this server has no more")
    if request.method not in ("GET", "HEAD"):
        state.rate.take(account.id, state.limits_of(account).limits.requests_per_minute)
    return account


Caller = Annotated[Account, Depends(account_of)]


def same_origin(request: Request) -> None:
    """Cookies are sent by browsers whoever made them ask; what changes something must come from this page."""
    origin = request.headers.get("origin")
    if origin is None or urlsplit(origin).netloc != request.headers.get("host"):
        raise ApiError(403, "other_origin", "with a session, requests come from this server's own page")


async def json_body(request: Request) -> dict[str, Any]:
    """The JSON object of a request; ApiError 413, 415 or 400."""
    import json

    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "not_json", "send JSON, with Content-Type: application/json")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_JSON:
            raise ApiError(413, "too_large", f"a request may have {MAX_JSON:,} bytes")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "not_json", f"the body is no JSON: {error}"[:300]) from None
    if not isinstance(body, dict):
        raise ApiError(400, "not_json", f"the body is a JSON object, got {type(body).__name__}")
    return body


Body = Annotated[dict[str, Any], Depends(json_body)]


def chunks_of(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives."""
    return request.stream()


class SecurityHeaders:
    """Puts the headers on every answer. Plain ASGI: wrappers of Starlette would buffer event streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with headers added to the answer's start."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS.items()]}
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
