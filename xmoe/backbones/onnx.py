"""ONNX files through ONNX Runtime; sessions may be called from several threads at once."""

from __future__ import annotations

from pathlib import Path

from xmoe.backbones.files import import_extra, only_listed
from xmoe.backbones.formats import FloatArray, Runner, check_shape
from xmoe.base.backbone import BackboneCard, BackboneFile
from xmoe.base.errors import ConfigError


def open_file(card: BackboneCard, file: BackboneFile, path: Path, threads: int) -> Runner:
    """A runner of one file of a card; ConfigError where input, output or shape differ."""
    runtime = import_extra("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        with only_listed(card, file, path) as linked:
            session = runtime.InferenceSession(str(linked), options, ["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own classes differ from version to version
        raise ConfigError(f"not readable as ONNX: {error}", where=str(path)) from error
    inputs = {one.name: one for one in session.get_inputs()}
    outputs = [one.name for one in session.get_outputs()]
    if set(inputs) != {file.input}:
        raise ConfigError(f"the inputs are {sorted(inputs)}, not {file.input!r}", where=str(path))
    if file.output not in outputs:
        raise ConfigError(f"the outputs are {outputs}, not {file.output!r}", where=str(path))
    fed = inputs[file.input]
    if fed.type != "tensor(float)":
        raise ConfigError(f"it is fed {fed.type}", where=str(path), mend="take a float32 file")
    check_shape(card, file, tuple(fed.shape), path)

    def run(sound: FloatArray) -> FloatArray:
        result: FloatArray = session.run([file.output], {file.input: sound})[0]
        return result

    return run
