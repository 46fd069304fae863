"""Defines the routes of the server: OpenAI's chat protocol, trajectories, health and metrics."""

import hmac
import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from codevision_ext.serve.exchange import Chat, Exchange
from codevision_ext.serve.protocol import ApiError

OPEN_PATHS = frozenset({"/health"})
"""Paths that need no key."""


class _Key:
    """Lets only requests with the API key through."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._key = app, f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        given: bytes = headers.get(b"authorization", b"")
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not hmac.compare_digest(given, self._key):
            error = ApiError(401, "the API key is missing or wrong; send it as a bearer token", code="invalid_api_key")
            await _response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def make_app(chat: Chat, api_key: str | None) -> FastAPI:
    """Returns the application; without `api_key` everybody may use it."""
    app = FastAPI(title="codevision serve", openapi_url=None, docs_url=None, redoc_url=None)
    if api_key:
        app.add_middleware(_Key, key=api_key)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ApiError, _api_error)
    started, name = int(time.time()), chat.served.name

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "running": chat.admission.running, "waiting": chat.admission.waiting}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(chat.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        context = chat.limits.prompt.context
        model = {"id": name, "object": "model", "created": started, "owned_by": "codevision", "max_model_len": context}
        return {"object": "list", "data": [model]}

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions() -> Response:
        return Exchange(chat)

    @app.get("/trajectories/{ident}")
    def trajectory(ident: str) -> Response:
        record = chat.trajectories.record(ident)
        if record is None:
            raise ApiError(404, "there is no such trajectory, or newer ones have replaced it", code="not_found")
        return Response(record, media_type="application/json")

    @app.get("/trajectories/{ident}/images/{name}.png")
    def image(ident: str, name: str) -> Response:
        path = chat.trajectories.image(ident, name)
        if path is None:
            raise ApiError(404, "there is no such image, or newer trajectories have replaced it", code="not_found")
        return FileResponse(path, media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    return app


def _response(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body, error.status, error.headers)


async def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return _response(error)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    known = "no such page" if error.status_code == 404 else str(error.detail)
    return _response(ApiError(error.status_code, f"{request.method} {request.url.path[:200]}: {known}"))
