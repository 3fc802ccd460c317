"""Who is left out with whom, and who judges where nobody knows the sources."""

from dataclasses import replace

import numpy as np
import pytest

from xmoe.audio.dataset import Example
from xmoe.training.hold_out import choose_judges, plan_hold_out


def make(count, *, group_size=None, val=20):
    return [
        Example(
            f"{index:03d}.wav",
            "val" if index >= count - val else "train",
            ("ab"[index % 2],),
            group=None if group_size is None else f"g{index // group_size}",
        )
        for index in range(count)
    ]


def test_known_sources_are_left_out_one_by_one():
    plan = plan_hold_out(make(60, group_size=5))
    assert plan.known
    assert len(set(plan.groups.tolist())) == 12
    assert (plan.groups == plan.units).all()
    judges, words = choose_judges(plan, np.zeros(60))
    assert judges.all()
    assert words.startswith("held out by source")


def test_where_none_are_known_the_validation_split_is_left_out_as_one():
    plan = plan_hold_out(make(60))
    assert not plan.known
    assert len(set(plan.groups[plan.val].tolist())) == 1
    assert len(set(plan.groups.tolist())) == 41
    assert len(set(plan.units.tolist())) == 60


def test_a_harder_validation_split_judges_alone():
    plan = plan_hold_out(make(60))
    right = np.where(plan.val, np.arange(60) % 2, 1.0)
    judges, words = choose_judges(plan, right)
    assert (judges == plan.val).all()
    assert "50.0% right on validation, 100.0%" in words


def test_one_that_is_no_harder_judges_with_all_others():
    plan = plan_hold_out(make(60))
    judges, _ = choose_judges(plan, (np.arange(60) % 3 > 0).astype(float))
    assert judges.all()


@pytest.mark.parametrize("val", [0, 3])
def test_a_small_validation_split_judges_nothing_alone(val):
    plan = plan_hold_out(make(60, val=val))
    judges, words = choose_judges(plan, np.where(plan.val, 0.0, 1.0))
    assert judges.all()
    assert "fewer than 20" in words


def test_copies_are_left_out_together_and_are_no_sources():
    examples = make(60)
    copied = [replace(examples[0], filepath="copy.wav", copy_of="000.wav"), *examples[1:]]
    copied += [replace(examples[0], copy_of="000.wav")]
    plan = plan_hold_out(copied)
    assert not plan.known
    assert plan.groups[0] == plan.groups[-1] != plan.groups[1]
