"""Windows cover a recording from its start to its end, in the seconds of the recording."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.base.test_backbone import card
from xmoe.backbones.windows import place_windows


def test_short_sound_is_one_window():
    assert place_windows(1.2, card()) == [(0.0, 1.2)]
    assert place_windows(3.0, card()) == [(0.0, 3.0)]


def test_the_last_window_ends_with_the_sound():
    assert place_windows(5.0, card()) == [(0.0, 3.0), (1.5, 4.5), (2.0, 5.0)]
    assert place_windows(4.5, card()) == [(0.0, 3.0), (1.5, 4.5)]


def test_slowed_sound_is_cut_in_its_own_seconds():
    slowed = card(speed_factor=10.0)
    assert place_windows(0.45, slowed) == [(0.0, 0.3), pytest.approx((0.15, 0.45))]


def test_silence_at_the_edges_is_heard_too():
    edged = card(edge_s=2.0)
    assert place_windows(1.0, edged) == [(-2.0, 1.0), (-0.5, 2.5), (0.0, 3.0)]
    slowed = card(edge_s=1.0, speed_factor=10.0)
    assert place_windows(0.1, slowed) == [pytest.approx((-0.1, 0.2))]


@pytest.mark.parametrize("duration_s", [3.1, 7.7, 60.0, 3600.0])
def test_no_second_is_left_out(duration_s):
    windows = place_windows(duration_s, card(hop_s=2.5))
    assert windows[0][0] == 0.0
    assert windows[-1][1] == pytest.approx(duration_s)
    gaps = [late[0] - early[1] for early, late in pairwise(windows)]
    assert max(gaps) <= 1e-9
    assert all(late[0] > early[0] for early, late in pairwise(windows))
