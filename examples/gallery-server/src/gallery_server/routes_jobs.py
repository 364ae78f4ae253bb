"""Jobs over HTTP: ask for pictures, follow, cancel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from .accounts import Account
from .errors import ApiError
from .jobs import Job
from .progress import ATTEMPT, LAST
from .reading import accept
from .security import Body, Caller, GetState
from .state import State

router = APIRouter(prefix="/api")
BEAT = 10.0
"""Seconds after which a silent stream sends a comment, and looks into the database."""
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


@router.post("/jobs", status_code=202)
def add_job(body: Body, account: Caller, state: GetState, idempotency_key: Key = None) -> JSONResponse:
    """Accept a request. 202: it is on the disk and will be carried out once, also if the server stops.

    Send an ``Idempotency-Key``, and a repetition (of which nobody knows whether the first one arrived) gives the same
    job.
    """
    engine, policy = state.engines.of(account.policy)
    stored = accept(body, engine, policy, state.finder(account.id))
    job = state.jobs.add(account.id, "generate", stored, policy.limits.queued_jobs, idempotency_key)
    return _accepted(job, state)


@router.post("/pictures/{picture}/replay", status_code=202)
def add_replay(picture: str, account: Caller, state: GetState, idempotency_key: Key = None) -> JSONResponse:
    """Make a picture again from its record; the job's result says whether it is identical, and what differs."""
    _, policy = state.engines.of(account.policy)
    body = {"picture": state.pictures.check(account.id, picture)}
    job = state.jobs.add(account.id, "replay", body, policy.limits.queued_jobs, idempotency_key)
    return _accepted(job, state)


@router.get("/jobs")
def list_jobs(account: Caller, state: GetState, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> dict[str, Any]:
    """The newest jobs."""
    return {"jobs": [job.public(state.jobs.waiting(job)) for job in state.jobs.list(account.id, limit)]}


@router.get("/jobs/{job}")
def get_job(job: str, account: Caller, state: GetState) -> dict[str, Any]:
    """One job."""
    found = state.jobs.get(account.id, job)
    return found.public(state.jobs.waiting(found))


@router.post("/jobs/{job}/cancel")
def cancel_job(job: str, account: Caller, state: GetState) -> dict[str, Any]:
    """Cancel a job: a queued one at once, a running one before its next step. One that has ended stays as it is."""
    found = state.jobs.cancel(account.id, job)
    if state.worker is not None:
        state.worker.cancel(job)
    if found.state == "cancelled":
        state.tell(found)
    return found.public()


@router.get("/jobs/{job}/events")
async def follow_job(request: Request, job: str, account: Caller, state: GetState) -> Response:
    """Server-sent events: ``state`` (a job), ``step`` (with a preview now and then), ``warning``.

    The stream ends with the job. ``Last-Event-ID`` goes on after that event; 204 says that there is nothing more.
    """
    last = _last_id(request)
    found = await run_in_threadpool(state.jobs.get, account.id, job)
    if found.has_ended and last >= found.attempt * ATTEMPT + LAST:
        return Response(status_code=204)
    most = state.limits_of(account).limits.streams
    if state.streams.get(account.id, 0) >= most:
        raise ApiError(429, "too_many_streams", f"{most} event streams may be open at once; close one")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(state, account, found, last), media_type="text/event-stream", headers=headers)


async def _events(state: State, account: Account, job: Job, last: int) -> AsyncIterator[str]:
    """The stream: what is remembered, then what comes, and at the end the state that the database has."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    state.streams[account.id] = state.streams.get(account.id, 0) + 1
    try:
        with state.progress.listen(job.id, lambda: loop.call_soon_threadsafe(news.set)):
            yield "retry: 1000\n\n"
            if not state.progress.since(job.id, last):  # where things stand
                yield _event(job.attempt * ATTEMPT, "state", await _shown(state, job))
            while not state.stopping:
                news.clear()
                for note in state.progress.since(job.id, last):
                    last = note.id
                    yield _event(note.id, note.kind, note.data)
                    if note.id % ATTEMPT == LAST:
                        return
                job = await run_in_threadpool(state.jobs.get, account.id, job.id)
                if job.has_ended and not state.progress.since(job.id, last):
                    yield _event(job.attempt * ATTEMPT + LAST, "state", await _shown(state, job))
                    return
                try:
                    await asyncio.wait_for(news.wait(), BEAT)
                except TimeoutError:
                    yield ": waiting\n\n"
    finally:
        state.streams[account.id] -= 1


async def _shown(state: State, job: Job) -> dict[str, Any]:
    return job.public(await run_in_threadpool(state.jobs.waiting, job))


def _event(number: int, kind: str, data: dict[str, Any]) -> str:
    # JSON in ASCII has no line breaks, so nothing that a user wrote can end the event.
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


def _last_id(request: Request) -> int:
    text = request.headers.get("last-event-id", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def _accepted(job: Job, state: State) -> JSONResponse:
    if state.worker is not None:
        state.worker.wake()
    where = {"Location": f"/api/jobs/{job.id}"}
    return JSONResponse(job.public(state.jobs.waiting(job)), status_code=202, headers=where)
