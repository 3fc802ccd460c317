"""The routes under ``/v1``, and health.

A recording is the raw body, one part of a multipart form, or JSON with samples; what it is, is told
by its first bytes, not by its name or its Content-Type.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError

from xmoe.base.errors import XmoeError
from xmoe.serve.auth import check_scope
from xmoe.serve.batching import QueueFull
from xmoe.serve.bodies import read_body, read_form_files, read_json
from xmoe.serve.fanout import TooFewExperts
from xmoe.serve.problems import FORMATS, HttpProblem, describe_error
from xmoe.serve.schemas import (
    BatchAnswer,
    BatchItem,
    ClassifyAnswer,
    DriftAnswer,
    ExpertsAnswer,
    ExplainOptions,
    ModelDescription,
    Options,
    Readiness,
    SamplesRequest,
)
from xmoe.serve.service import Service

EXPECTED: tuple[type[Exception], ...] = (
    HttpProblem,
    XmoeError,
    QueueFull,
    TooFewExperts,
    MemoryError,
)
AsQuery = Annotated[Options, Query()]
BINARY = {"schema": {"type": "string", "format": "binary"}}
RECORDING: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One recording: the file itself, a form with one file, or its samples.",
        "content": {
            "audio/*": BINARY,
            "application/octet-stream": BINARY,
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": BINARY["schema"]}}
            },
            "application/json": {"schema": SamplesRequest.model_json_schema()},
        },
    }
}
READINESS: dict[str, Any] = {"model": Readiness, "description": "what each expert answered"}
FILES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Several recordings, one file part each.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"files": {"type": "array", "items": BINARY["schema"]}},
                }
            }
        },
    }
}


def kind_of(request: Request) -> str:
    """Return the media type of a request without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_recording(request: Request, service: Service) -> bytes:
    """Return the bytes of the one recording in a raw body or a form."""
    http = service.settings.http
    if kind_of(request) == "multipart/form-data":
        data = (await read_form_files(request, http, most=1))[0]
    else:
        data = await read_body(request, http)
    if not data:
        raise HttpProblem(422, "empty", "there is no recording in the request", hint=FORMATS)
    return data


async def read_samples(request: Request, service: Service) -> SamplesRequest:
    """Return the samples in a JSON body; HttpProblem where it is not what is expected."""
    data = await read_json(request, service.settings.http)
    try:
        return SamplesRequest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise HttpProblem(400, "bad_json", "the body is not JSON", hint=FORMATS) from error
        where = ".".join(str(part) for part in first["loc"])
        hint = "see /openapi.json for the fields"
        raise HttpProblem(422, "bad_field", f"{where}: {first['msg']}", hint=hint) from error


class QuickRoute(APIRoute):
    """A route whose only parameters are ``Options`` in the query, read without FastAPI's machinery.

    That saves a quarter of a millisecond of each request. The schema is made as ever, and what is
    wrong is refused in the same words.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""

        async def handle(request: Request) -> Response:
            response: Response = await self.endpoint(request, read_options(request))
            return response

        return handle


def read_options(request: Request) -> Options:
    """Return the options in the query; RequestValidationError where one is wrong."""
    try:
        return Options.model_validate(dict(request.query_params))
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        raise RequestValidationError(
            [{**one, "loc": ("query", *one["loc"])} for one in wrong]
        ) from error


def check_explaining(request: Request, options: Options) -> None:
    """Raise HttpProblem where a token asks for reasons that may not have them."""
    if options.explain:
        check_scope(request.scope, "explain")


def add_routes(router: APIRouter, service: Service) -> None:
    """Add the routes of one service."""
    add_classify(router, service)
    add_explain(router, service)
    add_descriptions(router, service)
    add_health(router, service)


def add_classify(router: APIRouter, service: Service) -> None:
    """Add the routes that answer for one recording and for several."""

    async def classify(request: Request, options: AsQuery) -> Response:
        """Answer for one recording."""
        if kind_of(request) == "application/json":
            given = await read_samples(request, service)
            check_explaining(request, given)
            answer = await service.classify_samples(given)
        else:
            check_explaining(request, options)
            answer = await service.classify_bytes(await read_recording(request, service), options)
        named = answer.model_copy(update={"request_id": request.state.request_id})
        return Response(named.model_dump_json(), media_type="application/json")

    router.add_api_route(
        "/v1/classify",
        classify,
        methods=["POST"],
        openapi_extra=RECORDING,
        tags=["classify"],
        response_model=ClassifyAnswer,
        route_class_override=QuickRoute,
    )

    @router.post("/v1/classify/batch", openapi_extra=FILES, tags=["classify"])
    async def classify_batch(request: Request, options: AsQuery) -> BatchAnswer:
        """Answer for each file of a form; one that cannot be read does not stop the others."""
        check_explaining(request, options)
        if kind_of(request) != "multipart/form-data":
            hint = "send multipart/form-data with one file part per recording"
            raise HttpProblem(415, "bad_form", "a batch is a form", hint=hint)
        http = service.settings.http
        files = await read_form_files(request, http, most=http.max_files)
        items = [await answer_item(service, i, data, options) for i, data in enumerate(files)]
        return BatchAnswer(
            answers=tuple(items), failed=sum(item.error is not None for item in items)
        )


async def answer_item(service: Service, index: int, data: bytes, options: Options) -> BatchItem:
    """Return the answer to one recording of a batch, or what is wrong with it."""
    try:
        return BatchItem(index=index, answer=await service.classify_bytes(data, options))
    except EXPECTED as error:
        found = describe_error(error).problem
        fields = {"code": found.code, "message": found.message, "hint": found.hint}
        return BatchItem(index=index, error=fields)


def add_explain(router: APIRouter, service: Service) -> None:
    """Add the route that says why."""

    @router.post(
        "/v1/explain",
        openapi_extra=RECORDING,
        tags=["explain"],
        response_model=None,
        responses={200: {"content": {"image/png": BINARY, "application/json": {}}}},
    )
    async def explain(request: Request, asked: Annotated[ExplainOptions, Query()]) -> Response:
        """Say why: class evidence, what the router looks at, who was sent which windows."""
        if kind_of(request) == "application/json":
            given = await read_samples(request, service)
            source = service.samples_of(given)
        else:
            source = await service.clip_of(await read_recording(request, service))
        if asked.output == "png":
            return Response(await service.draw(source, asked), media_type="image/png")
        return JSONResponse(await service.explain(source, asked))


def add_descriptions(router: APIRouter, service: Service) -> None:
    """Add the routes that say what is served and how it is."""

    @router.get("/v1/model", tags=["model"])
    async def model() -> ModelDescription:
        """Return labels, front end, experts, masks with reasons, and budget."""
        return service.describe_model()

    @router.get("/v1/drift", tags=["model"])
    async def drift() -> DriftAnswer:
        """Return how far the last recordings are from those of training, in this router replica."""
        return service.incoming.describe()

    @router.get("/v1/experts", tags=["model"])
    async def experts() -> ExpertsAnswer:
        """Return replicas, load, latency, failures and breaker of each expert."""
        return await service.describe_experts()


def add_health(router: APIRouter, service: Service) -> None:
    """Add the two routes that ask for no token."""

    @router.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Answer while the process lives."""
        return {"status": "alive"}

    @router.get("/readyz", tags=["health"], responses=dict.fromkeys((200, 503), READINESS))
    async def readyz() -> Response:
        """Run one real inference through every expert; 503 where one does not answer."""
        found: Readiness = await service.check_ready()
        headers = {} if found.ready else {"Retry-After": "1"}
        return JSONResponse(found.model_dump(), 200 if found.ready else 503, headers=headers)
