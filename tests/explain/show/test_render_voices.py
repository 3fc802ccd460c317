"""Pictures of experts in a fixed order show every voice, and cut no word off."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.fixtures.closed_runs import closed_config, closed_specs
from tests.fixtures.mixtures import cnn_specs
from xmoe.base.config import RoutingConfig
from xmoe.explain.reasons import find_reasons
from xmoe.explain.show.render import PICTURES, draw_answer, draw_why
from xmoe.explain.show.render_routing import draw_routing
from xmoe.explain.show.sentences import say_whys
from xmoe.mixture.moe import MoE


@pytest.fixture(scope="module", params=[0, 1, 3])
def reasons(request, closed, heard):
    spec, sound = heard
    plan = closed.model.prepare(spec[None], closed.routing, sound=sound, k=request.param)[0]
    return find_reasons(closed, spec, sound=sound, plan=plan)


@pytest.mark.parametrize("name", PICTURES)
def test_no_word_is_cut_off(name, reasons, cut_off):
    assert cut_off(PICTURES[name](reasons)) < 0.02


def test_each_expert_is_drawn_on_what_it_heard(reasons):
    figure = draw_answer(reasons)
    panels = figure.axes[2:]
    assert len(panels) == len(reasons.own_maps) == len(reasons.chosen())
    for axes, (name, _, _) in zip(panels, reasons.chosen(), strict=True):
        assert axes.get_title().startswith(name)
        assert "\nsays" in axes.get_title()
        assert axes.images[0].get_array().shape == reasons.own_maps[name].spec.shape


def test_the_order_has_a_bar_for_each_voice(reasons):
    axes, table = draw_why(reasons, "experts").axes
    answer = reasons.answer_id
    alone = [voice.alone[answer] for voice in reasons.asked]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(alone)
    assert len(axes.collections) == sum(voice.without is not None for voice in reasons.asked)
    assert len(table.texts) == 3 * (1 + len(reasons.asked))


def test_promises_are_drawn_over_what_experts_cost(reasons):
    promises = draw_why(reasons, "k").axes[-1]
    assert promises.lines[0].get_xdata().tolist() == pytest.approx([0.0, 1.0, 3.0, 7.0])
    assert promises.lines[0].get_ydata() == pytest.approx(reasons.plan.promises[0].numpy())
    assert "ms" in promises.get_xlabel()
    assert np.ptp(promises.get_ylim()) >= 0.1  # a thousandth is not drawn as a cliff
    chosen = promises.lines[-1]
    assert chosen.get_label() == f"K = {int(reasons.plan.k[0])}"


def test_a_second_round_has_a_line_of_its_own(reasons):
    later = dataclasses.replace(reasons, first_k=1, again=reasons.plan.promises[0].numpy() * 0.9)
    labels = [line.get_label() for line in draw_why(later, "k").axes[-1].lines]
    assert "once 1 had answered" in labels


def test_the_routing_picture_says_what_each_counts(reasons):
    counts = draw_routing(reasons).axes[3]
    assert counts.get_title(loc="left").startswith("What each counts (stem ")
    found = sum(bar.get_width() for bar in counts.patches)
    assert found == pytest.approx(1.0 - reasons.asked[0].counts)


def test_experts_of_two_kinds_are_drawn_side_by_side(closed, heard):
    hearing = closed_specs()[0]
    config = closed_config().model.model_copy(
        update={
            "experts": (*cnn_specs("broadband", "low"), hearing),
            "router": "gate",
            "stem": "cnn",
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MoE(config, closed.frontend.config).eval()
    routing = RoutingConfig(window_fraction=0.5)
    mixed = dataclasses.replace(closed, model=model, routing=routing)
    spec, sound = heard
    plan = model.prepare(spec[None], routing, sound=sound, k=3)[0]
    reasons = find_reasons(mixed, spec, sound=sound, plan=plan)
    assert list(reasons.own_maps) == [hearing.name]
    assert set(reasons.expert_maps) == set(plan.expert_names)
    assert not reasons.asked
    panels = draw_answer(reasons).axes[2:]
    assert [axes.get_title().split(",")[0] for axes in panels] == [
        name.replace("_", " ") for name, _, _ in reasons.chosen()
    ]


def test_a_network_is_drawn_on_what_it_was_sent(asking, heard, cut_off):
    spec, sound = heard
    reasons = find_reasons(asking, spec, sound=sound)
    figure = draw_answer(reasons)
    assert cut_off(figure) < 0.02
    by_name = {axes.get_title().split(",")[0]: axes for axes in figure.axes[2:]}
    assert by_name["third"].get_title().endswith(", no map")
    assert len(by_name["third"].images) == 1
    assert len(by_name["first"].images) == 2
    assert "third hears what stands out most, 0.00-0.16 s" in say_whys(reasons)["k"]
    assert "third what stands out most" in draw_routing(reasons).get_suptitle().replace("\n", " ")
