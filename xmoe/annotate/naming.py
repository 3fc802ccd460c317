"""Recordings -> names for the files of their events, so that no two recordings share one.

Recorders that start on the same timer give recordings of several sites the same name. The first
keeps its name, others are prefixed with their folders: ``site2_20240501_053000``.
``NAME.recording.json`` beside the events says whose they are, so the next call finds the same name.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from pathlib import Path

from xmoe.base.files import read_json, write_json

SUFFIX = ".recording.json"


def choose_stems(out: Path, recordings: Iterable[Path]) -> list[str]:
    """A unique name for each recording, also among the files already in ``out``."""
    taken: dict[str, Path] = {}
    stems = []
    for recording in recordings:
        whole = recording.absolute()
        stem = next(name for name in _names(whole) if _is_free(out, name, whole, taken))
        taken[stem] = whole
        stems.append(stem)
    return stems


def note_recording(out: Path, stem: str, recording: Path) -> None:
    """Write down which recording the files of that name belong to."""
    write_json(out / f"{stem}{SUFFIX}", {"file": str(recording.absolute())})


def _names(recording: Path) -> Iterable[str]:
    folders = [part for part in recording.parent.parts if part != recording.anchor]
    name = recording.stem
    yield name
    while folders:
        name = f"{folders.pop()}_{name}"
        yield name
    yield from (f"{name}_{number}" for number in count(2))  # a.wav beside a.flac


def _is_free(out: Path, name: str, recording: Path, taken: dict[str, Path]) -> bool:
    if name in taken:
        return taken[name] == recording
    note = out / f"{name}{SUFFIX}"
    return not note.is_file() or read_json(note).get("file") == str(recording)
