"""The Open Inference Protocol, version 2, so that clients of other servers work unchanged.

One model, ``xmoe``. Input: ``samples`` FP32 [S] or [1, S] with the parameter ``sample_rate_hz`` of
the request or of the input; or ``recording`` BYTES [1], a file. Outputs, those requested:
``probabilities`` FP64 [C] and ``label`` BYTES [1]. Both as JSON or as bytes (``tensors``). Refusals
have ``error`` beside their own fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse, Response

from xmoe import __version__
from xmoe.serve.guard.problems import HttpProblem
from xmoe.serve.http.bodies import read_body, read_record
from xmoe.serve.http.service import Service
from xmoe.serve.http.tensors import (
    EXTENSIONS,
    LENGTH,
    InferRequest,
    Tensor,
    check_outputs,
    split_request,
    to_file,
    to_samples,
    write_answer,
)
from xmoe.serve.schemas import ClassifyAnswer, Options, SampleOptions

NAME = "xmoe"
OUTPUTS = MappingProxyType({"probabilities": "FP64", "label": "BYTES"})
ModelName = Annotated[str, Path(max_length=64)]
Asked = TypeVar("Asked", bound=Options)

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


def read_options(kind: type[Asked], asked: InferRequest) -> Asked:
    """The options among a request's parameters; HttpProblem where they are wrong."""
    parameters = asked.parameters | asked.inputs[0].parameters
    names = kind.model_fields.keys() - {"explain"}  # no output could hold it
    return read_record(kind, {name: parameters[name] for name in names & parameters.keys()})


async def answer_infer(service: Service, asked: InferRequest, raw: bytes | None) -> ClassifyAnswer:
    tensor = asked.inputs[0]
    if tensor.datatype == "BYTES":
        return await service.classify_bytes(to_file(tensor, raw), read_options(Options, asked))
    samples, options = to_samples(tensor, raw), read_options(SampleOptions, asked)
    return await service.classify_samples(samples, options.sample_rate_hz, options)


def write_outputs(answer: ClassifyAnswer, asked: InferRequest, request_id: str) -> Response:
    """An answer in the words of the protocol."""
    head = {
        "model_name": NAME,
        "model_version": __version__,
        "id": request_id,
        "parameters": {
            "k": answer.k,
            "degraded": answer.degraded,
            "experts": ",".join(use.name for use in answer.experts),
        },
    }
    p = answer.probabilities
    tensors = {
        "probabilities": Tensor("FP64", list(p.values()), list(p)),
        "label": Tensor("BYTES", [answer.label]),
    }
    return write_answer(head, tensors, asked)


def check_name(name: str) -> None:
    if name != NAME:
        raise HttpProblem(404, "not_found", "there is no such model", hint=f"ask for {NAME}")


def check_version(version: Annotated[str, Path(max_length=64)]) -> None:
    if version != __version__:
        hint = f"ask for {__version__}, or leave /versions out"
        raise HttpProblem(404, "not_found", "there is no such version", hint=hint)


def build_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["v2"])

    @router.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        """Answers while the process lives."""
        return {"live": True}

    @router.get("/v2/health/ready")
    async def ready() -> Response:
        """Runs one real inference through every expert."""
        found = await service.check_ready()
        return JSONResponse({"ready": found.ready}, 200 if found.ready else 503)

    @router.get("/v2")
    async def server() -> dict[str, Any]:
        """Name and version of the server."""
        return {"name": NAME, "version": __version__, "extensions": list(EXTENSIONS)}

    @router.get("/v2/models/{name}")
    async def metadata(name: ModelName) -> dict[str, Any]:
        """Inputs and outputs of the model."""
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
                {"name": name, "datatype": datatype, "shape": [classes if name != "label" else 1]}
                for name, datatype in OUTPUTS.items()
            ],
        }

    @router.get("/v2/models/{name}/ready")
    async def model_ready(name: ModelName) -> Response:
        """The same as the server's readiness."""
        check_name(name)
        return await ready()

    @router.post("/v2/models/{name}/infer", openapi_extra=INFER)
    async def infer(request: Request, name: ModelName) -> Response:
        """Classify one recording that comes as numbers or as a file."""
        check_name(name)
        http = service.settings.http
        body = await read_body(request, http)
        asked, raw = split_request(body, request.headers.get(LENGTH), http)
        check_outputs(asked, OUTPUTS)
        answer = await answer_infer(service, asked, raw)
        return write_outputs(answer, asked, asked.id or request.state.request_id)

    add_versions(router, {"": metadata, "/ready": model_ready, "/infer": infer})
    return router


def add_versions(router: APIRouter, routes: Mapping[str, Callable[..., Any]]) -> None:
    """The model's routes once more, under the version that its metadata lists."""
    for path, function in routes.items():
        router.add_api_route(
            "/v2/models/{name}/versions/{version}" + path,
            function,
            methods=["POST" if path == "/infer" else "GET"],
            dependencies=[Depends(check_version)],
            include_in_schema=False,
        )
