"""What is tried of a pretrained network, and that it is chosen after the cheap experts."""

import numpy as np
import pytest

from tests.fixtures.backbones import tiny_backbone
from xmoe.base.config import BackboneSpec
from xmoe.base.task import task_of
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.training.dear import list_backbones, select_in_tiers
from xmoe.training.stack import HeldOut


@pytest.fixture
def spec(tmp_path):
    return BackboneSpec(name="tiny", card=tiny_backbone(tmp_path), folder=str(tmp_path))


@pytest.mark.parametrize(
    ("segment_s", "names"),
    [
        (0.1, ["tiny"]),
        (0.12, ["tiny"]),
        (0.15, ["tiny", "tiny-1w"]),
        (0.2, ["tiny", "tiny-half", "tiny-1w"]),
        (0.45, ["tiny", "tiny-half", "tiny-1w", "tiny-2w"]),
    ],
)
def test_a_network_is_tried_whole_half_as_dense_and_on_salient_windows(spec, segment_s, names):
    assert [one.name for one in list_backbones([spec], segment_s)] == names


def test_half_as_dense_means_twice_the_hop(spec):
    slowed = spec.card.model_copy(update={"speed_factor": 0.5})
    half = list_backbones([spec.model_copy(update={"card": slowed})], 0.8)[1]
    assert (half.name, half.windows) == ("tiny-half", None)
    assert half.card.step_s == pytest.approx(2 * slowed.step_s)
    assert half.reason.endswith("with windows half as dense")


def test_a_network_is_taken_for_what_it_adds_and_asked_last():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, 400)
    rows = np.eye(2)[truth]

    def answer(right):
        odds = np.where(rng.random(400) < right, 2.0, -2.0)
        return odds[:, None] * (rows - 0.5)

    logits = {STEM_NAME: answer(0.6), "cheap": answer(0.8), "dear": answer(0.95), "poor": 0 * rows}
    held = HeldOut(logits, rows, np.arange(400), task_of("single_label"))
    ms = {"cheap": 5.0, "dear": 50.0, "poor": 1.0}
    found, first, added = select_in_tiers(held, ms, dear=["dear", "poor"], always=[STEM_NAME])
    assert (first, added) == (("cheap",), ("dear",))
    assert [(row.name, row.place) for row in found.rows] == [
        ("cheap", 1), ("dear", 2), ("poor", None),
    ]  # fmt: skip
    assert found.rows[1].weight > found.rows[0].weight > 0.0
