"""The three pictures say in their title what is seen, and cut no word off."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from xmoe.explain.reasons import find_reasons
from xmoe.explain.show.render import PICTURES, draw_answer, draw_router_saliency, draw_why


@pytest.fixture(scope="module", params=[0, 1, 3])
def reasons(request, subject, specs):
    plan = subject.model.plan(specs[:1], subject.routing, k=request.param)
    return find_reasons(subject, specs[0], plan=plan)


@pytest.mark.parametrize("name", PICTURES)
def test_no_word_is_cut_off(name, reasons, cut_off):
    assert cut_off(PICTURES[name](reasons)) < 0.02


def test_the_answers_picture_has_a_panel_for_each_expert(reasons):
    figure = draw_answer(reasons)
    asked = len(reasons.chosen())
    assert len(figure.axes) == 2 + asked
    title = figure.get_suptitle()
    assert title.startswith(f"The answer is {reasons.classes[reasons.answer_id]} (p = ")
    assert "random" in title
    assert ("K = 0" in figure.axes[0].get_title()) == (asked == 0)


def test_the_saliency_picture_tints_what_was_sent(reasons):
    figure = draw_router_saliency(reasons)
    assert figure.get_suptitle().startswith("What the router looks at")
    by_time = next(axes for axes in figure.axes if axes.get_ylabel().startswith("Saliency"))
    sent = sorted({span for name, _, _ in reasons.chosen() for span in reasons.sent_to(name)})
    spans = reasons.scales.merge_spans(sent)
    assert len([p for p in by_time.patches if isinstance(p, Rectangle)]) == len(spans)


def test_an_unusual_map_is_drawn_without_a_warning(subject, specs):
    reasons = find_reasons(subject, specs[0])
    flat = np.ones_like(reasons.spec)
    reasons.maps.update(gradcam=np.zeros_like(flat), saliency=flat)
    assert not draw_answer(reasons).axes[0].images[1:]
    assert draw_router_saliency(reasons).get_suptitle().startswith("What the router looks at")


@pytest.mark.parametrize("question", ["experts", "k"])
def test_a_question_has_its_map_and_the_curves_of_its_target(reasons, question):
    figure = draw_why(reasons, question)
    if question not in reasons.whys:  # K = 3 was asked for, and nothing is promised for it
        assert not figure.axes
        return
    main, curves = figure.axes
    assert main.get_title(loc="left").endswith(reasons.whys[question].target)
    filled, by_chance, shown, _ = curves.lines
    verdict = reasons.whys[question].verdict
    assert filled.get_ydata().tolist() == pytest.approx(list(verdict.removed))
    assert shown.get_ydata()[-1] == pytest.approx(verdict.whole)
    assert by_chance.get_linestyle() == ":"


def test_a_question_without_an_answer_says_so(subject, specs):
    reasons = find_reasons(subject, specs[0])
    del reasons.whys["k"]
    assert "did not choose" in draw_why(reasons, "k").get_suptitle()
