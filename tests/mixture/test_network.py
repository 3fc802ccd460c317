"""A mixture of CNNs as one expert: it answers as it was trained, here and far away."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.fixtures.closed_runs import closed_config, closed_model, closed_specs
from tests.fixtures.runs import RATE_HZ, make_sound, tiny_config, tiny_model, write_run
from xmoe.audio.segment import Segment
from xmoe.audio.sound import hold_sound
from xmoe.base.config import ModelConfig, NetworkSpec
from xmoe.experts.protocol import Inputs
from xmoe.experts.registry import kind_of
from xmoe.explain.maps.own_maps import map_hearing
from xmoe.explain.targets import ClassTarget
from xmoe.explain.trace import trace_plan
from xmoe.frontend.measure import measure_segments
from xmoe.mixture.network import NetworkExpert, answer_segments, measure_ms, whole_logits
from xmoe.predict.predictor import Predictor
from xmoe.serve.experts.expert import ExpertCore

CONFIG = tiny_config(("click", "hum", "tone"))
SPEC = NetworkSpec(name="third", spectro=CONFIG.spectro, mixture=CONFIG.model)
LENGTH = round(0.4 * RATE_HZ)


@pytest.fixture
def network():
    """A network with weights of order one and a sharpness of two."""
    expert = NetworkExpert(SPEC).eval()
    expert.mixture.load_state_dict(tiny_model(CONFIG).state_dict())
    expert.sharpness.fill_(2.0)
    return expert


@pytest.fixture
def mixed(network, tmp_path):
    """The path of a run whose third expert is the network."""
    config = closed_config(k_price=-1000.0)
    experts = (*config.model.experts[:2], SPEC)
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"experts": experts})}
    )
    plain = closed_model(closed_config())
    model = type(plain)(config.model, config.spectro).eval()
    model.stem.load_state_dict(plain.stem.state_dict())
    model.router.load_state_dict(plain.router.state_dict())
    for name in ("first", "second"):
        model.experts[name].load_state_dict(plain.experts[name].state_dict())
    model.experts["third"].load_state_dict(network.state_dict())
    return write_run(tmp_path / "run", config, model=model)


def cut(*lengths):
    return [Segment(make_sound(seed=i)[:length], RATE_HZ, 0) for i, length in enumerate(lengths)]


@pytest.mark.parametrize("length", [LENGTH, LENGTH // 2])
def test_it_answers_as_the_mixture_that_was_trained(network, length):
    segments = cut(length, length)
    spec = network.frontend.compress(*measure_segments(segments, network.frontend))
    with torch.no_grad():
        expected = torch.log_softmax(2.0 * whole_logits(network.mixture, spec), 1)
    torch.testing.assert_close(answer_segments(network, segments), expected, atol=2e-3, rtol=0)
    assert expected.std() > 0.1


def test_segments_of_different_lengths_are_answered_as_alone(network):
    segments = cut(LENGTH, LENGTH // 2)
    alone = torch.cat([answer_segments(network, [segment]) for segment in segments])
    torch.testing.assert_close(answer_segments(network, segments), alone)


def test_soft_answers_are_the_answers_and_reach_every_piece_that_was_seen(network):
    inputs = Inputs(torch.zeros(1, 0, 4, 1), torch.ones(1), 0.04, 2, hold_sound(cut(LENGTH)))
    spans = torch.tensor([[[0.0, 0.1], [0.1, 0.2], [0.3, 0.4]]])
    payload = network.pack(SPEC, inputs, torch.arange(1), spans)
    assert payload["pieces"].tolist() == [[1600, 800]]
    (pieces,) = network.see(payload)
    assert [piece.shape[1] for piece in pieces] == [21, 20]  # silence fills the window
    leaves = [piece.requires_grad_() for piece in pieces]
    said = network.answer_pieces(leaves)
    torch.testing.assert_close(said[None], network.answer(payload))
    said[0].backward()
    assert all(leaf.grad.abs().sum() > 0 for leaf in leaves)


def test_called_over_a_wire_it_answers_as_in_this_process(mixed):
    predictor = Predictor.load(mixed)
    segments = predictor.cut(make_sound(1.0, seed=3), RATE_HZ)
    specs, sound = predictor.measure(segments), predictor.sound_of(segments)
    plan, inputs = predictor.model.prepare(specs, predictor.config.routing, sound=sound)
    request = predictor.model.requests(plan, inputs)[-1]
    assert request.name == "third"
    core = ExpertCore.load(str(mixed), "third")
    far = core.infer({name: value.numpy() for name, value in request.payload.items()})
    here = predictor.experts["third"](request)
    np.testing.assert_allclose(far, here.detach().numpy(), atol=1e-5)
    assert predictor.predict(make_sound(1.0, seed=3), RATE_HZ).k == 3


def test_its_own_map_is_explained_by_gradient(mixed):
    predictor = Predictor.load(mixed)
    (segment,) = cut(LENGTH)
    spec, sound = predictor.measure([segment]), hold_sound([segment])
    plan, _ = predictor.model.prepare(spec, predictor.config.routing, sound=sound, k=3)
    trace = trace_plan(predictor.model, spec, plan, sound=sound)
    own = map_hearing(predictor.model, trace, plan, ClassTarget(0), spread=True)[0]["third"]
    assert own.values.shape == (16, 41)
    assert own.values.max() > 0.0


def test_it_costs_time(network):
    assert 0.0 < measure_ms(network, sample_rate_hz=RATE_HZ) < 1000.0


def test_a_spec_goes_through_json_and_holds_no_experts_that_hear():
    model = ModelConfig(num_classes=3, experts=(*closed_specs()[:2], SPEC), k_max=3)
    assert ModelConfig.model_validate_json(model.model_dump_json()) == model
    assert kind_of("network") is NetworkExpert
    with pytest.raises(ValidationError, match="CNNs"):
        NetworkSpec(name="third", spectro=CONFIG.spectro, mixture=model)
