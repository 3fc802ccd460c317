"""A few test recordings, cut short, that a run keeps: something to ask it before one has a sound.

They are taken in the order of the data set, one class after the other, whatever the run says of
them. ``xmoe train --no-samples`` leaves them out of a run that is given away.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf

from xmoe.audio.clip import Clip, read_clip
from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.store import load_clips
from xmoe.base.errors import AudioError, RunFolderError
from xmoe.base.files import write_bytes
from xmoe.run.folder import RunFile, RunFolder

MOST_SAMPLES = 6
LONGEST_S = 5.0
# Half a megabyte of 16 bits: less than five seconds where the rate is high.
MOST_VALUES = 1 << 18


@dataclass(frozen=True)
class Sample:
    """A recording with its labels, as the bytes of a WAV file; the hash is that of its sound."""

    labels: tuple[str, ...]
    wav: bytes
    seconds: float
    sound_sha256: str


def write_samples(folder: RunFolder, dataset: Dataset) -> None:
    """Write a few clips of the test split, mono and 16 bits."""
    kept = [
        (example.labels, to_wav(clip))
        for example, clip in load_clips(dataset, pick_examples(dataset))
        if isinstance(clip, Clip)
    ]
    labels, sounds = zip(*kept, strict=True) if kept else ((), ())
    columns = {
        "labels": pa.array(map(list, labels), pa.list_(pa.string())),
        "wav": pa.array(sounds, pa.binary()),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    write_bytes(folder.file(RunFile.SAMPLES), sink.getvalue().to_pybytes())


def pick_examples(dataset: Dataset) -> list[Example]:
    """Test clips of as many classes as there is room for, evenly apart in their order."""
    by_labels: dict[tuple[str, ...], list[Example]] = {}
    for example in sorted(dataset.split("test"), key=lambda one: one.labels):
        end_s = example.start_s + LONGEST_S
        end_s = end_s if example.end_s is None else min(end_s, example.end_s)
        by_labels.setdefault(example.labels, []).append(replace(example, end_s=end_s))
    groups = list(by_labels.values())
    if (many := len(groups)) > MOST_SAMPLES:
        groups = [groups[i * (many - 1) // (MOST_SAMPLES - 1)] for i in range(MOST_SAMPLES)]
    turns = (group[i] for i in range(MOST_SAMPLES) for group in groups if i < len(group))
    return list(turns)[:MOST_SAMPLES]


def to_wav(clip: Clip) -> bytes:
    """Clip, or its beginning, as a WAV file of 16 bits."""
    sink = io.BytesIO()
    samples = clip.samples[:MOST_VALUES]
    sf.write(sink, samples, clip.sample_rate_hz, format="WAV", subtype="PCM_16")
    return sink.getvalue()


def read_samples(folder: RunFolder) -> Sequence[Sample]:
    """Clips that a run keeps, none where it keeps none; RunFolderError if it is torn."""
    path = folder.file(RunFile.SAMPLES)
    if not path.is_file():
        return ()
    try:
        with pq.ParquetFile(path) as file:  # read_table would import pandas: 70 MB of every router
            table = file.read().select(["labels", "wav"])
        rows = table.slice(0, MOST_SAMPLES).to_pylist()
        clips = [read_clip(io.BytesIO(row["wav"]), name=str(path)) for row in rows]
    except (OSError, TypeError, KeyError, pa.ArrowException, AudioError) as error:
        raise RunFolderError(
            str(error), where=str(path), mend="remove it, or train again"
        ) from error
    return tuple(
        Sample(tuple(row["labels"]), row["wav"], clip.duration_s, clip.content_sha256)
        for row, clip in zip(rows, clips, strict=True)
    )
