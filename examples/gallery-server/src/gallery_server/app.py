"""The application: everything put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from sdcore import Plugin

from . import routes_gallery, routes_jobs
from .config import Config
from .engines import Engines
from .errors import ApiError
from .files import DataFolder
from .security import SecurityHeaders
from .state import State
from .worker import Worker

STATIC = Path(__file__).parent / "static"


def create_app(
    folder: Path, config: Config, *, plugins: Mapping[str, type[Plugin]] | None = None, work: bool = True
) -> FastAPI:
    """The server of a data folder.

    Args:
        folder: where pictures, uploads and the database are; made if it is not there.
        config: the operator's file.
        plugins: plugin classes by name that are not installed as packages.
        work: False to accept jobs and leave them in the queue.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        files = DataFolder(folder)
        files.lock()
        try:
            engines = Engines(config, plugins)
            app.state.gallery = state = State.open(config, files, engines)
            if work:
                state.worker = Worker(state)
                state.worker.start()
            yield
            state.stopping = True
            if state.worker is not None:
                state.worker.stop()
            state.database.close()
            engines.close()
        finally:
            files.unlock()

    # The pages that FastAPI makes of the API load scripts from elsewhere; /openapi.json is there.
    app = FastAPI(title="sdcore gallery", version="0.1.0", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(SecurityHeaders)
    app.include_router(routes_jobs.router)
    app.include_router(routes_gallery.router)
    _answer_errors(app)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether it runs."""
        return {"status": "ok"}

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        """The page."""
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def _answer_errors(app: FastAPI) -> None:
    """Every error has one form."""

    def answer(error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), status_code=error.status, headers=error.headers)

    @app.exception_handler(ApiError)
    async def ours(request: Request, error: ApiError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> JSONResponse:
        return answer(ApiError(error.status_code, "http_error", str(error.detail)))

    @app.exception_handler(RequestValidationError)
    async def of_a_parameter(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return answer(ApiError(422, "invalid_request", f"{'.'.join(map(str, first['loc']))}: {first['msg']}"))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        return answer(ApiError(500, "internal", "something went wrong that should not; the operator's log says what"))
