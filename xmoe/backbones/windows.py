"""Where the windows of a backbone lie in a recording."""

from __future__ import annotations

from xmoe.base.backbone import BackboneCard

# A remainder below this is rounding, not sound.
_EPSILON_S = 1e-9


def place_windows(duration_s: float, card: BackboneCard) -> list[tuple[float, float]]:
    """Windows (start_s, end_s) of a recording: a grid, its last one aligned to the end.

    Sound no longer than a window is one window, which ends with it. Silence at the edges counts as
    sound: there windows begin before 0, and end after the recording.
    """
    first_s, end_s = -card.margin_s, duration_s + card.margin_s
    if end_s - first_s <= card.span_s + _EPSILON_S:
        return [(first_s, end_s)]
    last_s = end_s - card.span_s
    steps = int((last_s - first_s - _EPSILON_S) / card.step_s) + 1
    starts = [first_s + step * card.step_s for step in range(steps)] + [last_s]
    return [(start, start + card.span_s) for start in starts]
