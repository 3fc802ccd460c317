"""Where the segments of a recording begin."""

from __future__ import annotations


def segment_starts(frames: int, num_frames: int, hop_frames: int) -> list[int]:
    """Return where segments of a clip begin: every hop, the last one flush with the end."""
    last = max(0, frames - num_frames)
    starts = list(range(0, last + 1, max(1, hop_frames)))
    if starts[-1] != last:
        starts.append(last)
    return starts
