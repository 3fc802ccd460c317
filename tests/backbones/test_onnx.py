"""ONNX files that cannot be opened, and real weights that look across their batch."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fixtures.backbones import describe, sounds, tiny_backbone, wheel_folder
from xmoe.backbones import load_backbone
from xmoe.backbones.files import hash_file
from xmoe.base.backbone import BackboneCard, BackboneFile
from xmoe.base.errors import ConfigError


def test_a_file_that_is_no_network(tmp_path):
    card = tiny_backbone(tmp_path)
    (tmp_path / "tiny.onnx").write_bytes(b"no network")
    file = card.files[0].model_copy(update={"sha256": hash_file(tmp_path / "tiny.onnx")})
    with pytest.raises(ConfigError, match=r"tiny\.onnx: not readable as ONNX"):
        load_backbone(card.model_copy(update={"files": (file,)}), tmp_path)


def test_weights_beside_the_file_are_read_where_the_card_lists_them(tmp_path):
    onnx = pytest.importorskip("onnx")
    card = tiny_backbone(tmp_path)
    heard = sounds(card, 2)
    wanted = load_backbone(card, tmp_path).embed(heard)
    model = onnx.load(tmp_path / "tiny.onnx")
    onnx.save(
        model,
        tmp_path / "tiny.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=50,  # shapes stay within
    )
    hidden = describe(tmp_path / "tiny.onnx")
    with pytest.raises(ConfigError, match=r"tiny\.onnx: not readable as ONNX"):
        load_backbone(hidden, tmp_path)
    beside = BackboneFile(path="weights.bin", sha256=hash_file(tmp_path / "weights.bin"))
    listed = hidden.model_copy(update={"files": (*hidden.files, beside)})
    assert np.array_equal(load_backbone(listed, tmp_path).embed(heard), wanted)


def test_half_precision_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    card = tiny_backbone(tmp_path)
    model = onnx.load(tmp_path / "tiny.onnx")
    del model.graph.node[1:], model.graph.initializer[:]
    model.graph.node[0].output[0] = "embedding"
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = card.window_samples
    onnx.save(model, tmp_path / "tiny.onnx")
    with pytest.raises(ConfigError, match=r"it is fed tensor\(float16\).*take a float32 file"):
        load_backbone(describe(tmp_path / "tiny.onnx"), tmp_path)


def test_a_spectrogram_that_clips_at_the_loudest_of_its_batch():
    folder = wheel_folder("openwakeword", "resources/models")
    mel, embedding = "melspectrogram.onnx", "embedding_model.onnx"
    files = [
        {"path": mel, "input": "input", "output": "output", "scale": 32768.0},
        {
            "path": embedding,
            "input": "input_1",
            "output": "conv2d_19",
            "shape": [-1, 76, 32, 1],
            "scale": 0.1,
            "offset": 2.0,
        },
    ]
    fields = {
        "name": "speech",
        "format": "onnx",
        "sample_rate_hz": 16_000,
        "window_s": 0.785,
        "embedding_size": 96,
        "licence": "Apache-2.0",
        "source": "openwakeword",
    }

    def embed(*, one_by_one: bool) -> np.ndarray:
        said = [file | {"sha256": hash_file(folder / file["path"])} for file in files]
        said[0] |= {"one_by_one": one_by_one}
        card = BackboneCard.model_validate(fields | {"files": said})
        heard = sounds(card, 4)
        heard[0] *= 0.001
        backbone = load_backbone(card, folder)
        alone = np.concatenate([backbone.embed(row[None]) for row in heard])
        return np.abs(backbone.embed(heard) - alone).max(axis=1)

    assert embed(one_by_one=True).max() < 1e-4
    assert embed(one_by_one=False)[0] > 1.0
