"""Tensors of the Open Inference Protocol: inside its JSON, or as bytes after it.

The binary extension, as clients of Triton and KServe use it: the header
``Inference-Header-Content-Length`` says where the JSON ends; then follow, little-endian, the bytes
of the input that has ``binary_data_size``. A string is four bytes of length and its own bytes. If
the header says 0, the whole body is one file. Outputs are sent as bytes on request.

Source: NVIDIA Triton, binary tensor data extension and classification extension.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from xmoe.serve.guard.problems import HttpProblem
from xmoe.serve.http.bodies import check_json_size, read_base64, read_record
from xmoe.serve.settings import HttpSettings

LENGTH = "Inference-Header-Content-Length"
EXTENSIONS = ("binary_tensor_data", "classification")
TYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
SAMPLES_HINT = "send one input `samples` of shape [S] or [1, S] with the parameter sample_rate_hz"
FILE_HINT = "send one input `recording` of BYTES, shape [1], data [the file as base64]"
MOST_DIGITS = 20
LENGTH_HINT = f"{LENGTH} is the length of the JSON; the bytes of binary_data_size follow it"


class Loose(BaseModel):
    """Base of the protocol's records: unknown fields are ignored, null is absence."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def leave_out_null(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None}


class InputTensor(Loose):
    """One input: samples as a flat or nested list, or a file."""

    name: str = Field(max_length=64)
    shape: list[Annotated[int, Field(ge=0)]] = Field(max_length=4)
    datatype: Literal["FP16", "FP32", "FP64", "BYTES"]
    data: list[Any] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)


class OutputParameters(Loose):
    """How one output is wanted."""

    binary_data: bool | None = None
    classification: int | None = Field(default=None, ge=1)


class RequestedOutput(Loose):
    """One requested output."""

    name: str = Field(max_length=64)
    parameters: OutputParameters = OutputParameters()


class InferRequest(Loose):
    """A request of the protocol."""

    id: str = Field(default="", max_length=128)
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] = Field(default_factory=list, max_length=16)
    parameters: dict[str, Any] = Field(default_factory=dict)


class Tensor(NamedTuple):
    """One output: a vector of numbers or strings, and the names of its entries, if any."""

    datatype: Literal["FP64", "BYTES"]
    values: Sequence[float] | Sequence[str]
    names: Sequence[str] = ()

    def rank(self, count: int) -> Tensor:
        """The ``count`` largest as strings ``value:index:name``."""
        order = np.argsort(-np.asarray(self.values), kind="stable")[:count]
        best = [f"{self.values[i]:.6f}:{i}:{self.names[i]}" for i in order]
        return Tensor("BYTES", best)

    def pack(self) -> bytes:
        if self.datatype != "BYTES":
            return np.asarray(self.values, TYPES[self.datatype]).tobytes()
        texts = [str(value).encode() for value in self.values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def split_request(
    data: bytes, length: str | None, http: HttpSettings
) -> tuple[InferRequest, bytes | None]:
    if length == "0":
        tensor = InputTensor(name="recording", shape=[1], datatype="BYTES")
        return InferRequest(inputs=[tensor]), len(data).to_bytes(4, "little") + data
    if length is not None and not (
        length.isdecimal() and len(length) < MOST_DIGITS and int(length) <= len(data)
    ):
        what = f"{LENGTH} does not fit the length of the body"
        raise HttpProblem(400, "bad_request", what, hint=LENGTH_HINT)
    end = len(data) if length is None else int(length)
    asked = read_record(InferRequest, check_json_size(data[:end], http))
    named = asked.inputs[0].parameters.get("binary_data_size")
    if (named or 0) != len(data) - end:
        what = f"{len(data) - end} bytes follow the JSON, but the input declares another number"
        raise HttpProblem(400, "bad_request", what, hint=LENGTH_HINT)
    return asked, None if named is None else data[end:]


def only_numbers(data: Any) -> bool:
    """Whether nested lists hold only numbers."""
    if isinstance(data, list):
        return all(map(only_numbers, data))
    return type(data) in (int, float)


def to_samples(tensor: InputTensor, raw: bytes | None) -> npt.NDArray[np.floating[Any]]:
    """The samples [S] of an input; HttpProblem where they are unusable."""
    try:
        if raw is not None:
            values = np.frombuffer(raw, TYPES[tensor.datatype])
        elif only_numbers(tensor.data):
            values = np.asarray(tensor.data, np.float64)
        else:  # an array would give each text the room of the longest
            raise disagrees(SAMPLES_HINT)
    except (ValueError, OverflowError):  # ragged lists, or an incomplete number
        raise disagrees(SAMPLES_HINT) from None
    sized = math.prod(tensor.shape) == max(tensor.shape, default=0) == values.size
    if tensor.name != "samples" or not sized or values.dtype.kind not in "fiu":
        raise disagrees(SAMPLES_HINT)
    flat = values.reshape(-1)
    return flat if flat.dtype.kind == "f" else flat.astype(np.float64)


def to_file(tensor: InputTensor, raw: bytes | None) -> bytes:
    """The file in an input of BYTES, base64 in JSON; HttpProblem where there is none."""
    text: Any = tensor.data
    while isinstance(text, list) and len(text) == 1:
        text = text[0]
    if tensor.name != "recording" or math.prod(tensor.shape) != 1:
        raise disagrees(FILE_HINT)
    if raw is not None and len(raw) == 4 + int.from_bytes(raw[:4], "little"):
        return raw[4:]
    if raw is not None or not isinstance(text, str):
        raise disagrees(FILE_HINT)
    return read_base64(text)


def disagrees(hint: str) -> HttpProblem:
    """The refusal of an input whose bytes contradict its description."""
    return HttpProblem(422, "bad_field", "name, shape and data do not agree", hint=hint)


def check_outputs(asked: InferRequest, known: Mapping[str, str]) -> None:
    """Raise HttpProblem for an output that is not ``known`` or not available in this form."""
    for output in asked.outputs:
        if output.name not in known:
            hint = f"ask for {', '.join(known)}"
            raise HttpProblem(400, "unknown_output", "there is no such output", hint=hint)
        if output.parameters.classification is not None and known[output.name] == "BYTES":
            hint = f"ask for it with {next(name for name in known if known[name] != 'BYTES')}"
            raise HttpProblem(400, "bad_request", "this output cannot be ranked", hint=hint)


def write_answer(
    head: Mapping[str, Any], tensors: Mapping[str, Tensor], asked: InferRequest
) -> Response:
    """The requested outputs, or all where none are named, each in its form."""
    every = bool(asked.parameters.get("binary_data_output", False))
    outputs, tail = [], b""
    for wanted in asked.outputs or [RequestedOutput(name=name) for name in tensors]:
        tensor, how = tensors[wanted.name], wanted.parameters
        if how.classification is not None:
            tensor = tensor.rank(how.classification)
        output: dict[str, Any] = {"name": wanted.name, "datatype": tensor.datatype}
        output["shape"] = [len(tensor.values)]
        if every if how.binary_data is None else how.binary_data:
            raw = tensor.pack()
            outputs.append(output | {"parameters": {"binary_data_size": len(raw)}})
            tail += raw
        else:
            outputs.append(output | {"data": tensor.values})
    body = {**head, "outputs": outputs}
    if not tail:
        return JSONResponse(body)
    text = json.dumps(body).encode()
    headers = {LENGTH: str(len(text))}
    return Response(text + tail, media_type="application/octet-stream", headers=headers)
