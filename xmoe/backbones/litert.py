"""TensorFlow Lite files through LiteRT, and tensors inside them.

An inner tensor is made an output of the graph in memory: one number of the file's table of
outputs. Asking LiteRT to keep every tensor instead (``experimental_preserve_all_tensors``) gives
the same numbers, but takes twice the memory and seconds for the first window (BirdNET V2.4).
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from xmoe.backbones.files import import_extra
from xmoe.backbones.formats import FloatArray, Runner, check_shape
from xmoe.base.backbone import BackboneCard, BackboneFile
from xmoe.base.errors import ConfigError

# The place of ``outputs`` in the table of a subgraph: schema.fbs of TensorFlow Lite.
_OUTPUTS_FIELD = 8


def open_file(card: BackboneCard, file: BackboneFile, path: Path, threads: int) -> Runner:
    """A runner of one file of a card; ConfigError where input, output or shape differ."""
    interpreters = import_extra("ai_edge_litert.interpreter", "litert")
    content = read_with_output(file, path)
    try:
        interpreter = interpreters.Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:  # half precision in some places, flex operations
        mend = "take a float32 file without TensorFlow's own operations"
        raise ConfigError(f"LiteRT cannot run it: {error}", where=str(path), mend=mend) from error
    inputs = {one["name"]: one for one in interpreter.get_input_details()}
    if set(inputs) != {file.input}:
        raise ConfigError(f"the inputs are {sorted(inputs)}, not {file.input!r}", where=str(path))
    fed = inputs[file.input]
    if fed["dtype"] is not np.float32:
        mend = "take a float32 file"
        raise ConfigError(f"it is fed {fed['dtype'].__name__}", where=str(path), mend=mend)
    check_shape(card, file, tuple(int(size) for size in fed["shape_signature"]), path)
    return _Network(interpreter, fed["index"], interpreter.get_output_details()[0]["index"])


class _Network:
    """An interpreter behind a lock: it holds its tensors between set, invoke and get."""

    def __init__(self, interpreter: Any, fed: int, read: int) -> None:
        self._interpreter, self._fed, self._read = interpreter, fed, read
        self._shape: tuple[int, ...] = ()
        self._lock = Lock()

    def __call__(self, sound: FloatArray) -> FloatArray:
        with self._lock:
            if sound.shape != self._shape:
                self._interpreter.resize_tensor_input(self._fed, sound.shape)
                self._interpreter.allocate_tensors()
                self._shape = sound.shape
            self._interpreter.set_tensor(self._fed, sound)
            self._interpreter.invoke()
            result: FloatArray = self._interpreter.get_tensor(self._read)
            return result


def read_with_output(file: BackboneFile, path: Path) -> bytes:
    """A network's bytes with the card's tensor as the first output of its one graph."""
    schema = import_extra("ai_edge_litert.schema_py_generated", "litert")
    content = bytearray(path.read_bytes())
    if not schema.Model.ModelBufferHasIdentifier(content, 0):
        raise ConfigError("not a TensorFlow Lite file", where=str(path))
    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    names = [(graph.Tensors(i).Name() or b"").decode() for i in range(graph.TensorsLength())]
    index = file.output
    if isinstance(index, str):
        index = names.index(index) if names.count(index) == 1 else -1
    if index is None or not 0 <= index < len(names) or not graph.OutputsLength():
        raise ConfigError(f"no one tensor is called {file.output!r}", where=str(path))
    place = graph._tab.Vector(graph._tab.Offset(_OUTPUTS_FIELD))
    content[place : place + 4] = index.to_bytes(4, "little")
    return bytes(content)
