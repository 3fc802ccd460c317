"""What promises read, where it is planted whether the glance knows more than the answers."""

from dataclasses import replace

import numpy as np
import pytest

from xmoe.training import reading as module
from xmoe.training.promise import Depths, choose_first_most, cross_fit
from xmoe.training.reading import choose_reading, hide, read

ROWS, SPARE = 600, slice(2, None)


def plant(where):
    """One dear expert that is right where the stem is not, as only column ``where`` tells."""
    rng = np.random.default_rng(3)
    hard = rng.random(ROWS) < 0.3
    evidence = rng.standard_normal((ROWS, 30))
    evidence[:, where] = np.where(hard, 1.0, -1.0)
    right = np.stack([~hard, np.ones(ROWS)], axis=1).astype(float)
    return Depths(("one",), (10.0,), (evidence, evidence), right, np.arange(ROWS) // 10)


def test_what_only_the_glance_knows_is_read():
    found = choose_reading(plant(7), spare=SPARE)
    assert found.depths.evidence[0][:, SPARE].any()
    assert "saliency and conditions too" in found.reason
    assert found.rights_at([0.3]).mean() > 0.97


def test_what_the_answers_know_needs_no_more():
    found = choose_reading(plant(1), spare=SPARE)
    assert not found.depths.evidence[0][:, SPARE].any()
    assert found.depths.evidence[0][:, :2].any()
    assert found.reason.startswith("reads the answers so far alone: saliency and conditions gain")
    for _, promises in found.folds:
        assert not np.array(promises.depths[0].weights)[:, SPARE].any()


@pytest.mark.parametrize(("more", "reads"), [(0.02, True), (0.0, False), (-0.02, False)])
def test_more_is_read_for_a_gain_beyond_its_standard_error(more, reads, monkeypatch):
    depths = plant(7)
    lucky = np.arange(ROWS) % 10 == 0

    def rights_at(self, shares):
        assert shares is module.SHOWN_SHARES
        gained = more * ROWS / lucky.sum() * lucky if self.depths is depths else 0.0
        return np.zeros((len(shares), ROWS)) + gained

    monkeypatch.setattr(module.Reading, "rights_at", rights_at)
    found = choose_reading(depths, spare=SPARE)
    assert (found.depths is depths) is reads
    assert f"{more:+.1%} +- 0.0%" in found.reason


def test_a_gain_within_its_standard_error_is_luck(monkeypatch):
    depths = plant(7)
    few = np.arange(ROWS) < 10  # one source of sixty gains all of it

    def rights_at(self, shares):
        return np.tile(few.astype(float) * (self.depths is depths), (len(shares), 1))

    monkeypatch.setattr(module.Reading, "rights_at", rights_at)
    assert choose_reading(depths, spare=SPARE).depths is not depths


def test_a_single_source_reads_the_answers_and_says_why():
    alone = replace(plant(7), units=np.zeros(ROWS, dtype=int))
    found = choose_reading(alone, spare=SPARE)
    assert found.folds == ()
    assert found.first_most == 1
    assert "single source" in found.reason


def test_folds_know_how_long_the_first_round_is():
    depths = plant(1)
    found = read(depths)
    assert found.first_most == choose_first_most(cross_fit(depths), depths)
    assert {promises.first_most for _, promises in found.folds} == {found.first_most}


def test_hidden_columns_are_the_same_for_all_and_the_rest_is_kept():
    depths = plant(7)
    hidden = hide(depths, [slice(0, 1), slice(5, 9)])
    for before, after in zip(depths.evidence, hidden.evidence, strict=True):
        assert not after[:, [0, 5, 6, 7, 8]].any()
        assert (after[:, [1, 2, 3, 4, 9]] == before[:, [1, 2, 3, 4, 9]]).all()
        assert before[:, 7].any()


def test_between_two_prices_each_is_taken_for_a_share(monkeypatch):
    depths = Depths(("one",), (10.0,), (), np.array([[0.0, 1.0], [1.0, 1.0]]), np.arange(2))
    monkeypatch.setattr(module, "PRICES", (1.0, 0.0))
    monkeypatch.setattr(module, "ask_rows", lambda _, __, price: np.full(2, int(price == 0.0)))
    rights = module.Reading(depths, (), 1).rights_at([0.25, 0.0, 9.0])
    assert rights.tolist() == [[0.25, 1.0], [0.0, 1.0], [1.0, 1.0]]
