"""The routes under ``/v1``, and health.

A recording is the raw body, one part of a multipart form, or JSON with samples; its first bytes
decide which, not its name or Content-Type. Options stand in the query, or beside the recording in
its form or JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError

from xmoe.base.errors import XmoeError
from xmoe.serve.guard.auth import check_origin, check_scope
from xmoe.serve.guard.problems import FORMATS, HttpProblem, describe_error
from xmoe.serve.http.bodies import (
    check_json_size,
    looks_like_json,
    read_body,
    read_form,
    read_record,
)
from xmoe.serve.http.corrections import Corrected, Correction
from xmoe.serve.http.service import Service
from xmoe.serve.router.batching import QueueFull
from xmoe.serve.router.fanout import TooFewExperts
from xmoe.serve.router.limits import Limits
from xmoe.serve.schemas import (
    BatchAnswer,
    BatchItem,
    ClassifyAnswer,
    ExplainOptions,
    ModelDescription,
    Options,
    Readiness,
    SamplesRequest,
)
from xmoe.serve.watch.ops import ExpertsAnswer, OpsAnswer
from xmoe.serve.watch.watch import DriftAnswer

EXPECTED: tuple[type[Exception], ...] = (
    HttpProblem,
    XmoeError,
    QueueFull,
    TooFewExperts,
    MemoryError,
)
Asked = TypeVar("Asked", bound=Limits)
AsQuery = Annotated[Options, Query()]
GZIP = b"\x1f\x8b"
FILE = {"type": "string", "format": "binary"}
BINARY = {"schema": FILE}


def body_of(words: str, parts: Mapping[str, Any], **kinds: Any) -> dict[str, Any]:
    """How the schema describes a body: a form of ``parts``, or one of other ``kinds``."""
    form = {"multipart/form-data": {"schema": {"type": "object", "properties": parts}}}
    return {"requestBody": {"required": True, "description": words, "content": {**kinds, **form}}}


RECORDING = body_of(
    "One recording: the file itself, a form with one file, or its samples.",
    {"file": FILE},
    **{
        "audio/*": BINARY,
        "application/octet-stream": BINARY,
        "application/json": {"schema": SamplesRequest.model_json_schema()},
    },
)
CORRECTION = body_of(
    "The recording, and what is said of its answer.",
    {"file": FILE, "correction": Correction.model_json_schema()},
)
FILES = body_of(
    "Several recordings, one file part each.", {"files": {"type": "array", "items": FILE}}
)
READINESS: dict[str, Any] = {"model": Readiness, "description": "what each expert answered"}


def is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0]
    return kind.strip().lower() == "multipart/form-data"


async def read_recording(
    request: Request, service: Service, options: Asked
) -> tuple[bytes | SamplesRequest, Asked]:
    """The one recording of a request, a file or samples, and all of its options."""
    http = service.settings.http
    if is_form(request):
        form = await read_form(request, http, most=1)
        data, options = form.files[0], with_fields(options, form.texts)
    else:
        data = await read_body(request, http)
        if looks_like_json(data):
            given = read_record(SamplesRequest, check_json_size(data, http))
            fields = given.model_dump(exclude_unset=True, exclude={"samples"})
            return given, with_fields(options, fields)
    if not data:
        raise HttpProblem(422, "empty", "there is no recording in the request", hint=FORMATS)
    if data.startswith(GZIP):
        hint = "send `Content-Encoding: gzip` with it, or the file inside"
        raise HttpProblem(415, "not_audio", "the recording is packed with gzip", hint=hint)
    return data, options


def with_fields(options: Asked, fields: Mapping[str, Any]) -> Asked:
    """Options updated by fields beside the recording; unknown fields are ignored."""
    known = {name: fields[name] for name in fields.keys() & type(options).model_fields.keys()}
    asked = options.model_dump(exclude_unset=True) | known
    return read_record(type(options), asked) if known else options


class QuickRoute(APIRoute):
    """A route whose only parameters are ``Options`` in the query, read without FastAPI's machinery.

    That saves a quarter of a millisecond per request. Schema and refusals stay the same.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            response: Response = await self.endpoint(request, read_options(request))
            return response

        return handle


def read_options(request: Request) -> Options:
    """The options in the query; RequestValidationError where one is wrong."""
    try:
        return Options.model_validate(dict(request.query_params))
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        raise RequestValidationError(
            [{**one, "loc": ("query", *one["loc"])} for one in wrong]
        ) from error


def check_explaining(request: Request, options: Options) -> None:
    """Raise HttpProblem where a token asks for explanations without that scope."""
    if options.explain:
        check_scope(request.scope, "explain")


def add_routes(router: APIRouter, service: Service) -> None:
    add_classify(router, service)
    add_explain(router, service)
    add_corrections(router, service)
    add_descriptions(router, service)
    add_health(router, service)


def add_classify(router: APIRouter, service: Service) -> None:
    async def classify(request: Request, options: AsQuery) -> Response:
        """Classify one recording."""
        given, options = await read_recording(request, service, options)
        check_explaining(request, options)
        if isinstance(given, bytes):
            answer = await service.classify_bytes(given, options)
        else:
            samples = np.asarray(given.samples, np.float64)
            answer = await service.classify_samples(samples, given.sample_rate_hz, options)
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
        """Classify each file of a form; one that cannot be read does not stop the others."""
        if not is_form(request):
            hint = "send multipart/form-data with one file part per recording"
            raise HttpProblem(415, "bad_form", "a batch must be a form", hint=hint)
        http = service.settings.http
        form = await read_form(request, http, most=http.max_files)
        asked = with_fields(options, form.texts)
        check_explaining(request, asked)
        items = [await answer_item(service, i, data, asked) for i, data in enumerate(form.files)]
        return BatchAnswer(
            answers=tuple(items), failed=sum(item.error is not None for item in items)
        )


async def answer_item(service: Service, index: int, data: bytes, options: Options) -> BatchItem:
    """The answer to one recording of a batch, or what is wrong with it."""
    try:
        return BatchItem(index=index, answer=await service.classify_bytes(data, options))
    except EXPECTED as error:
        found = describe_error(error).problem
        fields = {"code": found.code, "message": found.message, "hint": found.hint}
        return BatchItem(index=index, error=fields)


def add_explain(router: APIRouter, service: Service) -> None:
    @router.post(
        "/v1/explain",
        openapi_extra=RECORDING,
        tags=["explain"],
        response_model=None,
        responses={200: {"content": {"image/png": BINARY, "application/json": {}}}},
    )
    async def explain(request: Request, asked: Annotated[ExplainOptions, Query()]) -> Response:
        """Explain an answer: class evidence, saliency of the router, which expert got which
        span.
        """
        given, asked = await read_recording(request, service, asked)
        source = await service.read_source(given)
        if asked.output == "png":
            return Response(await service.draw(source, asked), media_type="image/png")
        return JSONResponse(await service.explain(source, asked))


def add_corrections(router: APIRouter, service: Service) -> None:
    @router.post("/v1/corrections", openapi_extra=CORRECTION, tags=["classify"])
    async def corrections(request: Request) -> Corrected:
        """Write down which labels are right; the run itself does not change."""
        check_origin(request, service.settings.http.allow_origins)
        hint = "send multipart/form-data with the parts file and correction"
        if not is_form(request):
            raise HttpProblem(415, "bad_form", "a correction must be a form", hint=hint)
        form = await read_form(request, service.settings.http, most=1)
        if "correction" not in form.fields:
            raise HttpProblem(422, "bad_form", "the form has no field correction", hint=hint)
        given = read_record(Correction, form.fields["correction"])
        holder = request.scope["state"].get("holder")
        return await service.correct(form.files[0], given, "" if holder is None else holder.name)


def add_descriptions(router: APIRouter, service: Service) -> None:
    @router.get("/v1/model", tags=["model"])
    async def model() -> ModelDescription:
        """Labels, front end, experts, masks with reasons, and budget."""
        return service.describe_model()

    @router.get(
        "/v1/samples/{place}",
        tags=["model"],
        response_class=Response,
        responses={200: {"content": {"audio/wav": BINARY}}},
    )
    async def sample(place: int) -> Response:
        """A recording of the test split that the run keeps, shortened."""
        samples = service.about.samples
        if not 0 <= place < len(samples):
            hint = "/v1/model lists them"
            raise HttpProblem(404, "not_found", "the run keeps no such recording", hint=hint)
        return Response(samples[place].wav, media_type="audio/wav")

    @router.get("/v1/drift", tags=["model"])
    async def drift() -> DriftAnswer:
        """How far the last recordings of all routers are from those of training."""
        return await service.operations.describe_drift()

    @router.get("/v1/experts", tags=["model"])
    async def experts() -> ExpertsAnswer:
        """Replicas, load, latency, failures and breaker of each expert."""
        return await service.operations.describe_experts()

    @router.get("/v1/ops", tags=["model"])
    async def ops() -> OpsAnswer:
        """Load, K, routers, versions and trials of the application, for its operators."""
        return await service.operations.describe()


def add_health(router: APIRouter, service: Service) -> None:
    @router.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Answers while the process lives."""
        return {"status": "alive"}

    @router.get("/readyz", tags=["health"], responses=dict.fromkeys((200, 503), READINESS))
    async def readyz() -> Response:
        """Runs one real inference through every expert; 503 where one does not answer."""
        found: Readiness = await service.check_ready()
        headers = {} if found.ready else {"Retry-After": "1"}
        return JSONResponse(found.model_dump(), 200 if found.ready else 503, headers=headers)
