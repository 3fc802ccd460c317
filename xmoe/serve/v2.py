"""The Open Inference Protocol, version 2, so that clients of other servers work as they are.

One model, ``xmoe``. Input: ``samples`` FP32 [S] or [1, S] with the parameter ``sample_rate_hz`` of
the request or of the input; or ``recording`` BYTES [1], a file as base64. Outputs:
``probabilities`` FP64 [C] and ``label`` BYTES [1]. Refusals have ``error`` beside their own fields.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xmoe import __version__
from xmoe.serve.bodies import read_json
from xmoe.serve.problems import HttpProblem
from xmoe.serve.schemas import ClassifyAnswer, Options, SamplesRequest
from xmoe.serve.service import Service

NAME = "xmoe"
BYTES_HINT = "send one input `recording` of BYTES, shape [1], data [the file as base64]"
ModelName = Annotated[str, Path(max_length=64)]


class Loose(BaseModel):
    """Base of the protocol's records: fields that are not read are let through."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class InputTensor(Loose):
    """One input: samples as a flat or nested list."""

    name: str = Field(max_length=64)
    shape: list[Annotated[int, Field(ge=0)]] = Field(max_length=4)
    datatype: Literal["FP32", "FP64", "BYTES"]
    data: list[float] | list[list[float]] | Annotated[list[str], Field(min_length=1, max_length=1)]
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferRequest(Loose):
    """A request of the protocol."""

    id: str = Field(default="", max_length=128)
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    parameters: dict[str, Any] = Field(default_factory=dict)


INFER: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": InferRequest.model_json_schema(),
                "example": {
                    "inputs": [
                        {
                            "name": "samples",
                            "shape": [4],
                            "datatype": "FP32",
                            "data": [0.0, 0.1, 0.0, -0.1],
                            "parameters": {"sample_rate_hz": 16000},
                        }
                    ]
                },
            }
        },
    }
}


def to_samples(request: InferRequest) -> SamplesRequest:
    """Return the recording in a request; HttpProblem where it is none."""
    tensor = request.inputs[0]
    flat: list[float] = []
    for row in tensor.data:
        if isinstance(row, str):
            raise HttpProblem(422, "bad_field", "text is not samples", hint=BYTES_HINT)
        flat.extend(row if isinstance(row, list) else [row])
    size = 1
    for extent in tensor.shape:
        size *= extent
    hint = "send one input `samples` of shape [S] or [1, S] with the parameter sample_rate_hz"
    if tensor.name != "samples" or size != len(flat) or max(tensor.shape, default=0) != size:
        raise HttpProblem(422, "bad_field", "name, shape and data do not agree", hint=hint)
    parameters = request.parameters | tensor.parameters
    known = {key: parameters[key] for key in SamplesRequest.model_fields if key in parameters}
    try:
        return SamplesRequest.model_validate({**known, "samples": flat})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HttpProblem(422, "bad_field", f"{where}: {first['msg']}", hint=hint) from error


def to_bytes(tensor: InputTensor) -> bytes:
    """Return the file in an input of BYTES, which JSON holds as base64; HttpProblem if none."""
    first = tensor.data[0] if len(tensor.data) == 1 else None
    if tensor.name != "recording" or tensor.shape != [1] or not isinstance(first, str):
        raise HttpProblem(422, "bad_field", "name, shape and data do not agree", hint=BYTES_HINT)
    try:
        return base64.b64decode(first, validate=True)
    except ValueError as error:
        raise HttpProblem(422, "bad_field", "data is no base64", hint=BYTES_HINT) from error


def read_options(asked: InferRequest) -> Options:
    """Return what the parameters of a request ask for; HttpProblem where they are wrong."""
    parameters = asked.parameters | asked.inputs[0].parameters
    known = {key: parameters[key] for key in Options.model_fields if key in parameters}
    try:
        return Options.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        hint = "see /openapi.json for the fields"
        raise HttpProblem(422, "bad_field", f"{where}: {first['msg']}", hint=hint) from error


async def answer_infer(service: Service, asked: InferRequest) -> ClassifyAnswer:
    """Return the answer to a recording that comes as numbers or as a file."""
    if asked.inputs[0].datatype == "BYTES":
        return await service.classify_bytes(to_bytes(asked.inputs[0]), read_options(asked))
    return await service.classify_samples(to_samples(asked))


def check_name(name: str) -> None:
    """Raise HttpProblem unless ``name`` is the model that is served."""
    if name != NAME:
        raise HttpProblem(404, "not_found", "there is no such model", hint=f"ask for {NAME}")


def check_version(version: Annotated[str, Path(max_length=64)]) -> None:
    """Raise HttpProblem unless ``version`` is the one that is served."""
    if version != __version__:
        hint = f"ask for {__version__}, or leave /versions out"
        raise HttpProblem(404, "not_found", "there is no such version", hint=hint)


def build_router(service: Service) -> APIRouter:
    """Return the protocol's routes."""
    router = APIRouter(tags=["v2"])

    @router.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        """Answer while the process lives."""
        return {"live": True}

    @router.get("/v2/health/ready")
    async def ready() -> Response:
        """Run one real inference through every expert."""
        found = await service.check_ready()
        return JSONResponse({"ready": found.ready}, 200 if found.ready else 503)

    @router.get("/v2")
    async def server() -> dict[str, Any]:
        """Return name and version of the server."""
        return {"name": NAME, "version": __version__, "extensions": []}

    @router.get("/v2/models/{name}")
    async def metadata(name: ModelName) -> dict[str, Any]:
        """Return inputs and outputs of the model."""
        check_name(name)
        classes = len(service.router.config.classes)
        return {
            "name": NAME,
            "versions": [__version__],
            "platform": "xmoe",
            "inputs": [
                {"name": "samples", "datatype": "FP32", "shape": [-1]},
                {"name": "recording", "datatype": "BYTES", "shape": [1]},
            ],
            "outputs": [
                {"name": "probabilities", "datatype": "FP64", "shape": [classes]},
                {"name": "label", "datatype": "BYTES", "shape": [1]},
            ],
        }

    @router.get("/v2/models/{name}/ready")
    async def model_ready(name: ModelName) -> Response:
        """Answer as the server's readiness does."""
        check_name(name)
        return await ready()

    @router.post("/v2/models/{name}/infer", openapi_extra=INFER)
    async def infer(request: Request, name: ModelName) -> dict[str, Any]:
        """Answer for one recording that comes as numbers."""
        check_name(name)
        asked = await read_infer(request, service)
        answer = await answer_infer(service, asked)
        p = list(answer.probabilities.values())
        return {
            "model_name": NAME,
            "model_version": __version__,
            "id": asked.id or request.state.request_id,
            "parameters": {
                "k": answer.k,
                "degraded": answer.degraded,
                "experts": ",".join(use.name for use in answer.experts),
            },
            "outputs": [
                {"name": "probabilities", "datatype": "FP64", "shape": [len(p)], "data": p},
                {"name": "label", "datatype": "BYTES", "shape": [1], "data": [answer.label]},
            ],
        }

    add_versions(router, {"": metadata, "/ready": model_ready, "/infer": infer})
    return router


def add_versions(router: APIRouter, routes: Mapping[str, Callable[..., Any]]) -> None:
    """Add the model's routes once more, under the version that its metadata lists."""
    for path, function in routes.items():
        router.add_api_route(
            "/v2/models/{name}/versions/{version}" + path,
            function,
            methods=["POST" if path == "/infer" else "GET"],
            dependencies=[Depends(check_version)],
            include_in_schema=False,
        )


async def read_infer(request: Request, service: Service) -> InferRequest:
    """Return the request in a JSON body; HttpProblem where it is none."""
    if "inference-header-content-length" in request.headers:
        hint = "send `data` as JSON numbers (binary_data=False in the clients of Triton)"
        raise HttpProblem(415, "unsupported", "binary tensors are not read", hint=hint)
    data = await read_json(request, service.settings.http)
    try:
        return InferRequest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            hint = "send the JSON of the Open Inference Protocol"
            raise HttpProblem(400, "bad_json", "the body is not JSON", hint=hint) from error
        where = ".".join(str(part) for part in first["loc"])
        hint = "see /openapi.json for the fields"
        raise HttpProblem(422, "bad_field", f"{where}: {first['msg']}", hint=hint) from error
