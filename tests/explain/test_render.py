"""The three pictures say in their title what is seen, and cut no word off."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from xmoe.explain.reasons import find_reasons
from xmoe.explain.render import colour_of, draw_answer, draw_router_saliency, draw_routing


@pytest.fixture(params=[0, 1, 3])
def reasons(request, subject, specs):
    plan = subject.model.plan(specs[:1], subject.routing, k=request.param)
    return find_reasons(subject, specs[0], plan=plan)


@pytest.mark.parametrize("draw", [draw_answer, draw_router_saliency, draw_routing])
def test_no_word_is_cut_off(draw, reasons, cut_off):
    assert cut_off(draw(reasons)) < 0.02


def test_the_answers_picture_has_a_panel_for_each_expert(reasons):
    figure = draw_answer(reasons)
    asked = len(reasons.chosen())
    assert len(figure.axes) == 2 + asked
    title = figure.get_suptitle()
    assert title.startswith(f"Why {reasons.target}: Grad-CAM on the stem map")
    assert "random" in title
    assert ("K = 0" in figure.axes[0].get_title()) == (asked == 0)


def test_the_saliency_picture_tints_what_was_sent(reasons):
    figure = draw_router_saliency(reasons)
    assert figure.get_suptitle().startswith("What the router looks at")
    by_time = next(axes for axes in figure.axes if axes.get_ylabel().startswith("Saliency"))
    sent = {window for _, _, windows in reasons.chosen() for window in windows}
    spans = reasons.scales.spans_s(sorted(sent), reasons.plan.window_frames)
    assert len([p for p in by_time.patches if isinstance(p, Rectangle)]) == len(spans)


def test_the_routing_picture_frames_what_was_sent(reasons):
    figure = draw_routing(reasons)
    sound, lanes, promises, gate = figure.axes
    frames = [patch for patch in sound.patches if isinstance(patch, Rectangle)]
    spans = [
        span
        for _, _, windows in reasons.chosen()
        for span in reasons.scales.spans_s(windows, reasons.plan.window_frames)
    ]
    assert len(frames) == len(spans) == len(lanes.patches)
    for frame, (start, end) in zip(frames, spans, strict=True):
        assert (frame.get_x(), frame.get_width()) == pytest.approx((start, end - start))
    assert [bar.get_width() for bar in gate.patches] == pytest.approx(reasons.plan.gate[0].tolist())
    assert promises.get_title(loc="left") == f"How many: K = {len(reasons.chosen())}"


def test_an_unusual_map_is_drawn_without_a_warning(subject, specs):
    reasons = find_reasons(subject, specs[0])
    flat = np.ones_like(reasons.spec)
    reasons.maps.update(gradcam=np.zeros_like(flat), saliency=flat)
    assert "zero everywhere" in draw_answer(reasons).get_suptitle()
    assert draw_router_saliency(reasons).get_suptitle().startswith("What the router looks at")


def test_an_expert_keeps_its_colour(subject, specs):
    reasons = find_reasons(subject, specs[0])
    colours = {colour_of(reasons, name) for name in reasons.plan.expert_names}
    assert len(colours) == 4
