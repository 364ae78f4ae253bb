"""Everything else over HTTP: sessions, what may be used, uploads, pictures."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from .accounts import SESSION_SECONDS
from .errors import ApiError, not_found
from .security import COOKIE, Body, Caller, GetState, chunks_of, refuse_guessing, same_origin

router = APIRouter()
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


@router.post("/api/session", status_code=204)
def log_in(request: Request, body: Body, state: GetState) -> Response:
    """Change an API key for a cookie that scripts cannot read and that other sites cannot use."""
    same_origin(request)
    key = body.get("key")
    account = state.accounts.by_key(key.strip()) if isinstance(key, str) else None
    if account is None:
        refuse_guessing(request, state)
        raise ApiError(401, "wrong_key", "this is no API key of this server")
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE,
        state.accounts.open_session(account),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.delete("/api/session", status_code=204)
def log_out(request: Request, account: Caller, state: GetState) -> Response:
    """Close the session of the cookie."""
    token = request.cookies.get(COOKIE)
    if token:
        state.accounts.close_session(token)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE)
    return response


@router.get("/api/me")
def me(account: Caller, state: GetState) -> dict[str, Any]:
    """Who asks, what they may do, and what a form needs to know of the model."""
    engine, policy = state.engines.of(account.policy)
    return {
        "name": account.name,
        "policy": account.policy,
        "always": [use.plugin for use in policy.always],
        "limits": policy.limits.model_dump(),
        "library": sorted(state.config.library),
        "model": engine.model.source if "/" not in engine.model.source else engine.model.source.rpartition("/")[2],
        "family": engine.model.family,
        "defaults": dict(engine.model.defaults),
        "schedulers": sorted(engine.host.registry.all("scheduler")),
    }


@router.get("/api/plugins")
def plugins(account: Caller, state: GetState) -> dict[str, Any]:
    """The plugins that a request may use, with the JSON schema of their options.

    An option whose schema has ``"format": "asset"`` is a file: ``{"upload": id}`` or ``{"library": name}``.
    """
    return {"plugins": state.engines.plugins(account.policy)}


@router.post("/api/uploads", status_code=201)
async def add_upload(
    request: Request, account: Caller, state: GetState, name: Annotated[str, Query(max_length=300)] = ""
) -> dict[str, Any]:
    """Upload a picture or a .safetensors file: the body is the file. Its id is the SHA-256 of its bytes."""
    limits = state.limits_of(account).limits
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.upload_bytes:
        raise ApiError(413, "too_large", f"an upload may have {limits.upload_bytes:,} bytes, this has {declared}")
    return await state.uploads.receive(account.id, name, chunks_of(request), limits)


@router.get("/api/uploads")
def list_uploads(account: Caller, state: GetState) -> dict[str, Any]:
    """What was uploaded."""
    return {"uploads": state.uploads.list(account.id)}


@router.delete("/api/uploads/{upload}", status_code=204)
def remove_upload(upload: str, account: Caller, state: GetState) -> Response:
    """Delete an upload."""
    state.uploads.remove(account.id, upload)
    return Response(status_code=204)


@router.get("/api/pictures")
def list_pictures(
    account: Caller,
    state: GetState,
    before: Annotated[int | None, Query(ge=0, lt=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 48,
) -> dict[str, Any]:
    """A page of the gallery, the newest first; ``before`` is the ``number`` of the last picture of the page before."""
    return {"pictures": state.pictures.list(account.id, before, limit)}


@router.get("/api/pictures/{picture}")
def get_picture(picture: str, account: Caller, state: GetState) -> dict[str, Any]:
    """One picture with its record."""
    return state.pictures.get(account.id, picture)


@router.delete("/api/pictures/{picture}", status_code=204)
def remove_picture(picture: str, account: Caller, state: GetState) -> Response:
    """Delete a picture and its record."""
    state.pictures.remove(account.id, picture)
    return Response(status_code=204)


@router.get("/pictures/{picture}.png")
async def picture_file(picture: str, account: Caller, state: GetState) -> FileResponse:
    """The file, byte for byte as it was made, its record inside."""
    name = await run_in_threadpool(state.pictures.check, account.id, picture)
    path = state.folder.picture(name)
    if not path.exists():
        raise not_found("picture")
    return FileResponse(path, media_type="image/png", headers=FOREVER)


@router.get("/thumbnails/{picture}.webp")
async def thumbnail_file(picture: str, account: Caller, state: GetState) -> FileResponse:
    """A small one."""
    name = await run_in_threadpool(state.pictures.check, account.id, picture)
    path = state.folder.thumbnail(name)
    if not path.exists():
        raise not_found("picture")
    return FileResponse(path, media_type="image/webp", headers=FOREVER)
