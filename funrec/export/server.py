"""An exported model over HTTP: `GET /schema`, `/health` and `/metrics`, `POST /predict`."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from funrec.export.batching import Batcher, Busy
from funrec.export.served import ServedModel
from funrec.utils.errors import InputError

HOST = "127.0.0.1"
#: Rows scored together, and rows that may wait for that.
BATCH_ROWS, WAITING_ROWS = 1024, 65_536
#: Connections at a time, seconds that a body may take to arrive, and that requests have to end in when the server does.
CONNECTIONS, BODY_SECONDS, LAST_SECONDS = 512, 30, 10
PATHS = {"/predict": "POST", "/schema": "GET", "/health": "GET", "/metrics": "GET"}

Scope = MutableMapping[str, Any]
Messages = Callable[..., Awaitable[Any]]


class Refused(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


class Measurements:
    """What `/metrics` shows; as middleware, it counts and times every request."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.registry = registry
        self.requests = Counter("funrec_requests", "Requests answered", ["path", "status"], registry=registry)
        self.rows = Counter("funrec_rows", "Rows scored", registry=registry)
        self.seconds = Histogram("funrec_request_seconds", "Time of a request to /predict", registry=registry)
        self.batches = Histogram(
            "funrec_batch_rows", "Rows scored together", registry=registry, buckets=[4**power for power in range(7)]
        )

    def around(self, app: Messages) -> Messages:
        """Return the application, counted and timed."""

        async def counted(scope: Scope, receive: Messages, send: Messages) -> None:
            async def sent(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    path = scope["path"] if scope["path"] in PATHS else "other"
                    self.requests.labels(path, message["status"]).inc()
                await send(message)

            clock = time.perf_counter()
            await app(scope, receive, sent if scope["type"] == "http" else send)
            if scope.get("path") == "/predict":
                self.seconds.observe(time.perf_counter() - clock)

        return counted


def build_app(model: ServedModel, most_bytes: int) -> Messages:
    """Return the application that answers with a model; a body may have `most_bytes`."""
    measured = Measurements()
    batcher = Batcher(model.score, BATCH_ROWS, WAITING_ROWS, measured.batches.observe)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        scoring = asyncio.create_task(batcher.run())
        yield
        scoring.cancel()
        with suppress(asyncio.CancelledError):
            await scoring

    app = FastAPI(title=f"funrec: {model.label}", lifespan=lifespan, docs_url=None, redoc_url=None)
    body = {"required": True, "content": {"application/json": {"schema": model.rows.schema}}}

    @app.post("/predict", openapi_extra={"requestBody": body})
    async def predict(request: Request) -> Response:
        """Score rows."""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                rows = model.rows.parse(await read_body(request, most_bytes))
            scores = await batcher.score(rows)
        except InputError as error:
            raise Refused(422, str(error)) from None
        except Busy:
            raise Refused(503, f"{WAITING_ROWS:,} rows wait to be scored. Try again later.") from None
        except ClientDisconnect:
            raise Refused(400, "The body should arrive whole.") from None
        except TimeoutError:
            raise Refused(408, f"The body should arrive within {BODY_SECONDS} seconds.") from None
        for name, values in scores.items():
            if not np.isfinite(values).all():
                place = int(np.argmin(np.isfinite(values)))
                raise Refused(422, f"rows[{place}] should have a {name}. It has none: one of its numbers is too large.")
        measured.rows.inc(len(rows))
        columns = [values.astype(float).tolist() for values in scores.values()]
        named = [dict(zip(scores, row, strict=True)) for row in zip(*columns, strict=True)]
        return Response(to_json({"scores": named}), media_type="application/json")

    @app.get("/schema")
    async def schema() -> dict[str, Any]:
        """Return what a request holds, with an example, and what comes back for each row."""
        limits = {"bytes": most_bytes}
        example = {"rows": [model.rows.example]}
        about = {key: model.proof[key] for key in ("run", "label", "format", "largest_difference", "compared_with")}
        return about | {
            "outputs": model.outputs,
            "limits": limits,
            "request": model.rows.schema,
            "example": example,
        }

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Return that the model answers."""
        return {"status": "ok", "model": model.label}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return counters and times, as Prometheus reads them."""
        return Response(generate_latest(measured.registry), media_type="text/plain; version=0.0.4")

    @app.exception_handler(Refused)
    async def refuse(request: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"error": error.line}, error.status)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        there = ", ".join(f"{method} {path}" for path, method in PATHS.items())
        return JSONResponse({"error": f"{error.detail}. There is: {there}."}, error.status_code)

    return measured.around(app)


async def read_body(request: Request, most_bytes: int) -> bytes:
    """Return a request's body; refuse one that is too long before it is read."""
    refused = Refused(413, f"The body should have at most {most_bytes:,} bytes.")
    if int(request.headers.get("content-length") or 0) > most_bytes:
        raise refused
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most_bytes:
            raise refused
        parts.append(part)
    return b"".join(parts)


def serve(model: ServedModel, port: int, most_bytes: int, on_start: Callable[[str], object]) -> None:
    """Answer on 127.0.0.1 until SIGTERM or Ctrl-C; `on_start` is told the address.

    Raises:
        InputError: If the port is taken.
    """
    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        raise InputError(f"--port {port} should be free, or 0 for any that is. Received: {error.strerror}.") from None
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        build_app(model, most_bytes),
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    # uvicorn ends in good order and then raises the signal once more, which should end nothing.
    previous = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        on_start(f"http://{HOST}:{listening.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        listening.close()
