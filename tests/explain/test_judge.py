"""Verdicts on maps of a model whose answer is known."""

import pytest
import torch

from xmoe.explain.judge import Verdict, judge_maps
from xmoe.explain.mask_sound import MaskableSound


def watch_one_cell(specs):
    """The share of a model that is sure while cell (3, 4) is loud."""
    return (specs[:, 3, 4] > 2.0).float()


def test_the_true_map_loses_it_at_once_and_the_false_one_last():
    spec = torch.zeros(8, 10)
    spec[3, 4] = 5.0
    true = torch.zeros(8, 10)
    true[3, 4] = 1.0
    found = judge_maps(watch_one_cell, spec, {"true": true, "false": 1 - true})
    assert set(found) == {"true", "false", "random"}
    assert (found["true"].whole, found["true"].silent) == (1.0, 0.0)
    assert found["true"].deletion == pytest.approx(1 / 32)
    assert found["true"].insertion == pytest.approx(31 / 32)
    assert found["false"].deletion == pytest.approx(31 / 32)
    assert found["true"].deletion < found["random"].deletion < found["false"].deletion


def test_means_are_by_trapezoids():
    verdict = Verdict((1.0, 0.5, 0.0), (0.0, 0.0, 1.0))
    assert (verdict.deletion, verdict.insertion, verdict.first_gone) == (0.5, 0.25, 0.5)
    assert (verdict.first_shown, verdict.reach) == (0.0, 1.0)


def test_a_map_explains_where_it_beats_chance_by_a_tenth():
    chance = Verdict((1.0, 0.5, 0.0), (0.0, 0.5, 1.0))
    better = Verdict((1.0, 0.3, 0.0), (0.0, 0.6, 1.0))  # 0.1 + 0.05 of 1 to gain
    hardly = Verdict((1.0, 0.4, 0.0), (0.0, 0.55, 1.0))
    assert better.explains(chance)
    assert not hardly.explains(chance)
    assert not chance.explains(chance)


def test_a_map_whose_first_eighth_is_not_missed_explains_nothing():
    """On the whole it is better than chance, but not where a sentence would point."""
    chance = Verdict((1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.0), (0.0,) * 8 + (1.0,))
    late = Verdict((1.0, 1.0, 0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0), (0.0,) * 8 + (1.0,))
    soon = Verdict((1.0, 0.8, *late.removed[2:]), late.restored)
    assert late.deletion < chance.deletion
    assert not late.explains(chance)
    assert soon.explains(chance)
    risen = Verdict((1.0, 1.1, *late.removed[2:]), late.restored)
    assert not risen.explains(Verdict((1.0, 1.2, *chance.removed[2:]), chance.restored))


def test_judging_twice_gives_the_same(subject, specs):
    maps = {"a": specs[0].clamp_min(0)}

    def watch(batch):
        return subject.probabilities(batch)[:, 0]

    assert judge_maps(watch, specs[0], maps) == judge_maps(watch, specs[0], maps)


def test_who_hears_is_judged_in_fewer_steps(closed, heard):
    spec, sound = heard
    masked = MaskableSound.of(closed.frontend, sound, spec.shape[1])

    def watch(specs, sounds):
        return closed.probabilities(specs, sounds)[:, 0]

    found = judge_maps(watch, spec, {"a": spec.clamp_min(0)}, masked)
    assert {len(verdict.removed) for verdict in found.values()} == {9}
    assert found["a"].first_gone == found["a"].removed[1]
