"""A run + recordings without labels -> which of them to label next, and a table to fill in.

Each recording is represented by the segment the run doubts most. Recordings the run was trained or
tested on are left out, recognised by the hash of their sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
import torch

from xmoe.audio.annotations import Annotation, format_audacity, format_raven
from xmoe.audio.clip import Clip
from xmoe.base.config import Device
from xmoe.base.device import choose_device
from xmoe.base.errors import AudioError
from xmoe.base.files import to_csv, write_bytes
from xmoe.base.progress import Progress, silent
from xmoe.batch.answers import read_names
from xmoe.batch.choose import SHORTLIST, Candidate, Shortlist, choose
from xmoe.batch.inputs import list_inputs
from xmoe.glance.kernel_stem import KernelStem
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFile, RunFolder

TableFormat = Literal["raven", "audacity"]
CSV_NAME = "suggested.csv"
COLUMNS = (
    *("filepath", "start_s", "end_s", "label"),
    *("answer", "probability", "entropy", "stands_for"),
)


@dataclass(frozen=True)
class Suggestion:
    """A recording to label, or the part of a longer one, and what the run answers now.

    ``stands_for`` counts the doubtful recordings nearest to it, itself included.
    """

    file: str
    start_s: float
    end_s: float
    is_part: bool
    answer: str
    probability: float
    entropy: float
    stands_for: int = 1


@dataclass(frozen=True)
class Suggested:
    """What to label, best first, out of ``answered`` readable recordings.

    ``known`` were left out, since the run knows their labels; ``bad`` could not be read.
    """

    rows: tuple[Suggestion, ...]
    answered: int
    known: int
    bad: tuple[str, ...]
    notes: tuple[str, ...]


def suggest(
    run: Path, source: str, count: int, *, device: Device = "auto", progress: Progress = silent
) -> Suggested:
    """Choose which ``count`` of the recordings that ``source`` names to label next.

    Raises DatasetError if there are none, RunFolderError if the run is damaged.
    """
    predictor = Predictor.load(run, device=choose_device(device))
    inputs = list_inputs(source)
    known = known_sounds(RunFolder(run))
    shortlist: Shortlist[Suggestion] = Shortlist(SHORTLIST * count)
    bad, left_out = [], 0
    for done, (name, clip) in enumerate(read_names(inputs.base, inputs.names, {}), 1):
        if isinstance(clip, AudioError):
            bad.append(f"{name}: {clip.what}")
        elif clip.content_sha256 in known:
            left_out += 1
        else:
            shortlist.add(doubt_recording(predictor, name, clip))
        progress("suggest", done, len(inputs.names))
    rows = tuple(_pick(shortlist, count))
    return Suggested(rows, shortlist.count, left_out, tuple(bad), inputs.notes)


def known_sounds(folder: RunFolder) -> frozenset[str]:
    """Content hashes of the clips a run was made from; none if it does not list them."""
    path = folder.file(RunFile.CLIPS)
    if not path.is_file():
        return frozenset()
    return frozenset(pq.read_table(path, columns=["content_sha256"])[0].to_pylist())


@torch.inference_mode()
def doubt_recording(predictor: Predictor, name: str, clip: Clip) -> Candidate[Suggestion]:
    """The run's answer to the segment it doubts most, and that segment's stem features."""
    segments = predictor.cut(clip.samples, clip.sample_rate_hz)
    specs = predictor.measure(segments)
    logits = predictor.answer_segments(specs, predictor.sound_of(segments)).logits
    p = np.stack([predictor.probabilities(row[None]) for row in logits])
    entropies = [predictor.task.entropy(row) for row in p]
    worst = int(np.argmax(entropies))
    stem = predictor.model.stem
    features = stem(specs[worst : worst + 1].to(predictor.device)).features
    if isinstance(stem, KernelStem):
        pooled = stem.pool_bands(features)
    else:
        pooled = features.mean(3).flatten(1)
    top = int(p[worst].argmax())
    row = Suggestion(
        file=name,
        start_s=segments[worst].start_s,
        end_s=segments[worst].end_s,
        is_part=len(segments) > 1,
        answer=predictor.config.classes[top],
        probability=float(p[worst, top]),
        entropy=entropies[worst],
    )
    return Candidate(row, entropies[worst], pooled[0].cpu().numpy().astype(np.float64))


def _pick(shortlist: Shortlist[Suggestion], count: int) -> Iterator[Suggestion]:
    candidates = list(shortlist)
    if not candidates:
        return
    doubt = np.array([candidate.doubt for candidate in candidates])
    chosen, nearest = choose(shortlist.scaled(), doubt, count)
    shares = np.bincount(nearest, minlength=len(chosen))
    for place, index in enumerate(chosen):
        yield replace(candidates[index].item, stands_for=int(shares[place]))


def write_suggested(
    out: Path,
    rows: Sequence[Suggestion],
    *,
    formats: Sequence[TableFormat] = (),
    band_hz: tuple[float, float] = (0.0, 0.0),
) -> list[Path]:
    """Write a table to fill in and, for Raven or Audacity, one selection without a label each.

    The table is a manifest: filled in, it can be trained on as it is. Tables of Raven and Audacity
    are named after their recordings. Returns the paths.
    """
    path = out / CSV_NAME
    write_bytes(path, to_csv([COLUMNS, *map(_cells, rows)]))
    written = [path]
    for row in rows if formats else ():
        name = row.file.partition("://")[2] or row.file
        stem = PurePosixPath(name.lstrip("/")).with_suffix("").as_posix()
        span = [Annotation(row.start_s, row.end_s, "", row.probability)]
        texts = {
            "raven": (".selections.txt", format_raven(span, band_hz=band_hz)),
            "audacity": (".labels.txt", format_audacity(span)),
        }
        for kind in formats:
            suffix, text = texts[kind]
            target = out / f"{stem}{suffix}"
            write_bytes(target, text.encode())
            written.append(target)
    return written


def _cells(row: Suggestion) -> tuple[object, ...]:
    part = (f"{row.start_s:.9g}", f"{row.end_s:.9g}") if row.is_part else ("", "")
    sure = (f"{row.probability:.4f}", f"{row.entropy:.4f}")
    return (row.file, *part, "", row.answer, *sure, row.stands_for)
