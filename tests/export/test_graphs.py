"""Graphs give the numbers of the modules that they were traced from."""

import numpy as np
import onnxruntime
import pytest
import torch

from tests.fixtures.closed_runs import closed_config, closed_model
from tests.fixtures.runs import make_sound
from xmoe.export.graphs import GlanceGraph, KernelsGraph, fixed_shapes, to_onnx
from xmoe.frontend.registry import build_frontend


def run(content, power, frames=None):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    fed = {"power": power.numpy()}
    return session.run(None, fed if frames is None else fed | {"frames": frames.numpy()})


@pytest.fixture(scope="module")
def model():
    return closed_model(closed_config())


@pytest.mark.parametrize("valid", [41, 17])
def test_the_glance(model, valid):
    frontend, routing = build_frontend(model.spectro), closed_config().routing
    graph = GlanceGraph(model, frontend, routing)
    content = to_onnx(graph, (16, 41), ("stem", "evidence", "scores"), frames=True)
    power = frontend.power(torch.from_numpy(make_sound(0.4))[None])
    power[:, :, valid:] = 0.0
    frames = torch.tensor([valid])
    with torch.no_grad():
        expected = graph(power, frames)
    for one, other in zip(run(content, power, frames), expected, strict=True):
        scale = float(other.abs().max())
        np.testing.assert_allclose(one, other.numpy(), atol=1e-4 * scale)


@pytest.mark.parametrize("name", ["first", "second", "third"])
def test_an_expert(model, name):
    expert = model.experts[name]
    graph, own = KernelsGraph(expert), expert.spec.spectro
    content = to_onnx(graph, (16, own.num_frames), ("logits",))
    samples = torch.from_numpy(make_sound(0.4, seed=1))[None, : own.segment_samples]
    power = expert.frontend.power(samples)
    with torch.no_grad():
        np.testing.assert_allclose(run(content, power)[0], graph(power).numpy(), atol=1e-3)


def test_shapes_are_as_before_afterwards():
    before = torch.zeros(2, 3).shape
    with fixed_shapes():
        assert torch.zeros(2, 3).shape == (2, 3)
    assert torch.zeros(2, 3).shape == before
    assert "shape" not in vars(torch.Tensor)
