"""A pretrained network hears, levels, pads and pools as in the run."""

import sys

import numpy as np
import pytest
import torch

from tests.fixtures.backbones import RATE_HZ, tiny_backbone
from tests.fixtures.runs import make_sound
from xmoe.experts.backbone import BackboneEar, pool_embeddings
from xmoe.experts.head import LinearHead, Scaling
from xmoe.glance.spans import choose_runs as choose_runs_of_torch
from xmoe_lite.network import Network, choose_runs, open_session
from xmoe_lite.sound import LiteError

CHANGES = [
    {},
    {"hop_s": 0.03, "edge_s": 0.02, "pooling": ("max", "mean")},
    {"normalise": "peak", "padding": "repeat"},
    {"normalise": "rms", "least_s": 0.04, "speed_factor": 2.0, "most_batch": 2},
    {"file": {"scale": 3.0, "offset": 0.1, "one_by_one": True}},
]


@pytest.mark.parametrize("changed", CHANGES, ids=str)
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("seconds", [0.05, 0.37])
def test_scores_are_those_of_the_run(tmp_path, changed, apart, seconds):
    card = tiny_backbone(tmp_path, **dict(changed))
    rng = torch.Generator().manual_seed(0)
    mean, deviation = torch.rand(2, card.num_features, generator=rng)
    linear = LinearHead(card.num_features, 3, exclusive=False)
    weight = torch.randn(card.num_features, 3, generator=rng)
    linear.fill(Scaling(mean, 0.1 + deviation), weight, torch.ones(3))
    head = {name: values.numpy() for name, values in linear.state_dict().items()}
    network = Network(card.model_dump(mode="json"), tmp_path, head)
    samples = make_sound(seconds, seed=1)
    ear = BackboneEar(card, str(tmp_path))
    embedded = torch.from_numpy(ear.embed(ear.cut(samples, RATE_HZ, apart=apart)))
    expected = linear(pool_embeddings(card, embedded)[None])[0].numpy()
    found = network.score([samples], RATE_HZ, apart=apart)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "count"), [(1, 3), (2, 2), (3, 2), (3, 4), (9, 9)])
def test_the_best_runs_are_the_same(width, count):
    for seed in range(20):
        scores = np.random.default_rng(seed).random(10).astype(np.float32)
        expected = choose_runs_of_torch(torch.from_numpy(scores), width, count).tolist()
        assert choose_runs(scores, width, count) == expected


def test_a_litert_file_without_its_runtime_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    card = tiny_backbone(tmp_path).model_dump(mode="json") | {"format": "litert"}
    with pytest.raises(LiteError, match=r"tiny\.onnx is a LiteRT file: pip install"):
        Network(card, tmp_path, {})


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"nonsense")
    with pytest.raises(LiteError, match=r"a\.onnx: not readable as ONNX"):
        open_session(tmp_path / "a.onnx")
