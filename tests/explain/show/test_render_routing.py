"""The picture of a plan frames what was sent and says whom the gate names."""

import pytest
from matplotlib.patches import Rectangle

from xmoe.explain.reasons import find_reasons
from xmoe.explain.show.render_routing import colour_of, draw_routing


@pytest.fixture(scope="module", params=[0, 1, 3])
def reasons(request, subject, specs):
    plan = subject.model.plan(specs[:1], subject.routing, k=request.param)
    return find_reasons(subject, specs[0], plan=plan)


def test_the_routing_picture_frames_what_was_sent(reasons):
    figure = draw_routing(reasons)
    sound, lanes, promises, gate = figure.axes
    frames = [patch for patch in sound.patches if isinstance(patch, Rectangle)]
    spans = [span for name, _, _ in reasons.chosen() for span in reasons.spans_of(name)]
    assert len(frames) == len(spans) == len(lanes.patches)
    for frame, (start, end) in zip(frames, spans, strict=True):
        assert (frame.get_x(), frame.get_width()) == pytest.approx((start, end - start))
    assert [bar.get_width() for bar in gate.patches] == pytest.approx(reasons.plan.gate[0].tolist())
    assert promises.get_title(loc="left") == f"How many: K = {len(reasons.chosen())}"


def test_the_gate_names_the_weight_of_those_asked_alone(reasons):
    *_, gate = draw_routing(reasons).axes
    shares, weights = reasons.plan.gate[0].tolist(), reasons.plan.weights[0].tolist()
    expected = [
        f"{share:.0%}" + (f", weight {weight:.2f}" if weight else "")
        for share, weight in zip(shares, weights, strict=True)
    ]
    assert [text.get_text() for text in gate.texts] == expected


def test_an_expert_keeps_its_colour(subject, specs):
    reasons = find_reasons(subject, specs[0])
    colours = {colour_of(reasons, name) for name in reasons.plan.expert_names}
    assert len(colours) == 4
