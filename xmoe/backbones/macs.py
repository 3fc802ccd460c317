"""Multiply-adds of a network for one window: its convolutions and matrix products, from its file.

The shapes in the file say it; None where they do not, or where a package that reads them is
missing. The rest of a network, its spectrogram above all, is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from xmoe.base.backbone import BackboneCard, BackboneFile


def count_macs(card: BackboneCard, folder: Path) -> int | None:
    """Multiply-adds of all files for one window, None where one cannot be counted."""
    count = {"onnx": _count_onnx, "litert": _count_litert}.get(card.format)
    if count is None:
        return None
    total = 0
    for index, file in enumerate(card.files):
        if file.output is not None:
            fed = card.window_samples if index == 0 else None
            try:
                total += count(folder / file.path, file, fed)
            except (ImportError, KeyError, ValueError, RuntimeError, _UnknownShapeError):
                return None
    return total


class _UnknownShapeError(Exception):
    """A shape in the file has a size that is not known."""


def _size(shape: Sequence[int] | None) -> int:
    if shape is None or any(size <= 0 for size in shape):
        raise _UnknownShapeError
    return math.prod(shape)


def _count_onnx(path: Path, file: BackboneFile, samples: int | None) -> int:
    onnx = import_module("onnx")
    model = onnx.load(path)
    sizes = [1, *(samples if size == -1 and samples else size for size in file.shape[1:])]
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, sizes, strict=True):
        if size > 0:
            dim.dim_value = size
    del model.graph.output[1:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, list[int]] = {one.name: list(one.dims) for one in graph.initializer}
    for one in (*graph.value_info, *graph.input, *graph.output):
        dims = one.type.tensor_type.shape.dim
        shapes[one.name] = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            weight = shapes[node.input[1]]
            total += _size(shapes.get(node.output[0])) * _size(weight[1:])
        elif node.op_type in ("MatMul", "Gemm"):
            inner = shapes[node.input[0]][-1:]
            total += _size(shapes.get(node.output[0])) * _size(inner)
    return total


# Codes of schema.fbs of TensorFlow Lite.
_CONV, _DEPTHWISE, _DENSE = 3, 4, 9


def _count_litert(path: Path, file: BackboneFile, samples: int | None) -> int:
    schema = import_module("ai_edge_litert.schema_py_generated")
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    graph, shapes = model.Subgraphs(0), _run_once(path, file, samples)
    total = 0
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        made = operator.Outputs(0)
        if code in (_CONV, _DEPTHWISE, _DENSE):
            # Weights: [out, height, width, in], [1, height, width, out], [out, in].
            weight = shapes[operator.Inputs(1)]
            total += _size(shapes[made]) * _size(weight[1:3] if code == _DEPTHWISE else weight[1:])
        if file.output in ((graph.Tensors(made).Name() or b"").decode(), made):
            break  # what comes after is not read
    return total


def _run_once(path: Path, file: BackboneFile, samples: int | None) -> dict[int, list[int]]:
    """Shapes of all tensors after one silent window, for many are not known before.

    Without the delegate, which would not tell the shapes within its part.
    """
    litert = import_module("ai_edge_litert.interpreter")
    plain = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = litert.Interpreter(str(path), experimental_op_resolver_type=plain)
    fed = interpreter.get_input_details()[0]["index"]
    sizes = [1, *(samples if size == -1 and samples else size for size in file.shape[1:])]
    interpreter.resize_tensor_input(fed, sizes)
    interpreter.allocate_tensors()
    interpreter.set_tensor(fed, np.zeros(sizes, np.float32))
    interpreter.invoke()
    return {one["index"]: one["shape"].tolist() for one in interpreter.get_tensor_details()}
