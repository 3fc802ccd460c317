"""Recordings -> a store of power spectrograms that training reads again and again.

Decoding, resampling and the linear part of the front end are done once. The store is one float16
array of log10 power [frames, F] of all clips end to end (steps below 0.1 dB), memory-mapped from
the run's ``cache`` folder, plus a JSON index. Augmentation and compression happen per batch.

For training, a clip is one piece, cropped at random; for evaluation, each of its segments is a
piece, measured alone as in serving.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.audio.clip import Clip
from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.quarantine import Quarantined
from xmoe.audio.segment import Grid, Segment
from xmoe.audio.sound import Sound, to_levels
from xmoe.audio.store import load_clips
from xmoe.base.errors import AudioError, RunFolderError
from xmoe.base.files import read_json, storage_errors, write_json
from xmoe.base.progress import Progress, silent
from xmoe.frontend.base import Frontend
from xmoe.frontend.measure import measure_power, measure_segments
from xmoe.frontend.threads import one_thread

LOG_FLOOR = 1e-12  # -120 dB, far below any front end's floor


@dataclass(frozen=True)
class SoundStore:
    """Sound of pieces: ``levels`` int16 [total samples], of which piece i is ``offsets[i]`` to
    ``offsets[i + 1]``, the float value ``scale`` [n] of one level, and ``rate_hz`` [n].
    """

    levels: npt.NDArray[np.int16]
    offsets: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float32]
    rate_hz: npt.NDArray[np.int64]

    def rows(self, pieces: Sequence[int]) -> Sound:
        lengths = np.diff(self.offsets)[list(pieces)]
        samples = np.zeros((len(pieces), int(lengths.max(initial=1))), np.int16)
        for row, piece in enumerate(pieces):
            samples[row, : lengths[row]] = self.levels[self.offsets[piece] :][: lengths[row]]
        picked = list(pieces)
        scale, rate_hz = self.scale[picked], self.rate_hz[picked]
        return Sound(*map(torch.from_numpy, (samples, scale, lengths, rate_hz)))


@dataclass(frozen=True)
class SpectrogramStore:
    """Power spectrograms of many clips, in pieces.

    ``values`` float16 [total frames, F] of log10 power; piece i is rows ``offsets[i]`` to
    ``offsets[i + 1]``, clip i is pieces ``firsts[i]`` to ``firsts[i + 1]``; ``targets`` int64 [n],
    or float32 [n, C] for several labels. ``sound`` is that of the pieces, if it was kept.
    """

    values: npt.NDArray[np.float16]
    offsets: npt.NDArray[np.int64]
    firsts: npt.NDArray[np.int64]
    targets: npt.NDArray[np.generic]
    clip_ids: tuple[str, ...]
    sound: SoundStore | None = None

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def frames(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)

    def pieces_of(self, clip: int) -> range:
        return range(int(self.firsts[clip]), int(self.firsts[clip + 1]))

    def batch(
        self, pieces: Sequence[int], starts: Sequence[int], num_frames: int
    ) -> tuple[Tensor, Tensor]:
        """Power [B, F, T] and valid frames [B] of pieces from ``starts`` on, padded with zero
        power.
        """
        block = np.full((len(pieces), num_frames, self.values.shape[1]), -np.inf, np.float32)
        valid = np.empty(len(pieces), np.int64)
        for row, (piece, start) in enumerate(zip(pieces, starts, strict=True)):
            first = self.offsets[piece] + start
            last = min(first + num_frames, self.offsets[piece + 1])
            block[row, : last - first] = self.values[first:last]
            valid[row] = last - first
        power = torch.from_numpy(block).mul_(float(np.log(10.0))).exp_()
        return power.transpose(1, 2).contiguous(), torch.from_numpy(valid)

    def piece(self, index: int) -> Tensor:
        """Power [F, frames] of one piece."""
        return self.batch([index], [0], int(self.frames[index]))[0][0]


def build_store(
    path: Path,
    dataset: Dataset,
    examples: Sequence[Example],
    frontend: Frontend,
    *,
    by_segment: bool = False,
    with_sound: bool = False,
    progress: Progress = silent,
) -> tuple[SpectrogramStore, list[Quarantined]]:
    """Decode ``examples`` into a store at ``path`` (``.npy`` and ``.json``) and open it.

    ``by_segment`` makes each segment a piece of its own; ``with_sound`` keeps their sound. Clips
    that cannot be decoded are left out and returned as quarantined rows.
    """
    kept: list[Example] = []
    bad: list[Quarantined] = []
    lengths: list[int] = []
    counts: list[int] = []
    sound = _SoundWriter(sound_file(path)) if with_sound else None

    def rows() -> Iterable[npt.NDArray[np.float16]]:
        for done, (example, clip) in enumerate(load_clips(dataset, examples), 1):
            if isinstance(clip, AudioError):
                bad.append(Quarantined.from_error(example.filepath, clip))
            else:
                segments = cut_pieces(clip, frontend, by_segment=by_segment)
                pieces = measure_pieces(segments, frontend, by_segment=by_segment)
                if sound is not None:
                    sound.write(segments)
                kept.append(example)
                counts.append(len(pieces))
                for power in pieces:
                    lengths.append(power.shape[1])
                    yield power.clamp_min(LOG_FLOOR).log10_().T.to(torch.float16).numpy()
            progress(f"spectrograms of {path.stem}", done, len(examples))

    with one_thread():
        _write_rows(path.with_suffix(".npy"), rows(), frontend.num_bins)
    index: dict[str, object] = {
        "clip_ids": [example.clip_id for example in kept],
        "offsets": [0, *accumulate(lengths)],
        "firsts": [0, *accumulate(counts)],
        "targets": dataset.targets(kept).tolist(),
        "spectro": frontend.config.model_dump(mode="json"),
    }
    if sound is not None:
        index["sound"] = sound.finish()
    write_json(path.with_suffix(".json"), index)
    return open_store(path), bad


def cut_pieces(clip: Clip, frontend: Frontend, *, by_segment: bool) -> list[Segment]:
    """The whole clip, or each of its segments."""
    rate, spectro = clip.sample_rate_hz, frontend.config
    if not by_segment:
        return [Segment(clip.samples, rate, 0)]
    grid = Grid.of(rate, segment_s=spectro.segment_s, hop_s=spectro.segment_hop_s)
    return grid.cut(clip.samples)


def measure_pieces(
    pieces: Sequence[Segment], frontend: Frontend, *, by_segment: bool
) -> Sequence[Tensor]:
    """Power [F, frames] of each piece of a clip."""
    if not by_segment:
        return [measure_power(one.samples, one.sample_rate_hz, frontend) for one in pieces]
    power, valid = measure_segments(pieces, frontend)
    return power[:, :, : int(valid[0])].unbind()


class _SoundWriter:
    """Appends the sound of pieces to a file; ``finish`` returns the index."""

    def __init__(self, path: Path) -> None:
        self.path, self.raw = path, path.with_name(f".{path.name}.raw")
        self.scale: list[float] = []
        self.rate_hz: list[int] = []
        self.offsets = [0]
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.raw.write_bytes(b"")

    def write(self, segments: Sequence[Segment]) -> None:
        """Append the pieces of one clip."""
        with storage_errors(self.path), self.raw.open("ab") as handle:
            for segment in segments:
                levels, scale = to_levels(segment.samples)
                handle.write(levels.astype("<i2").tobytes())
                self.scale.append(float(scale))
                self.rate_hz.append(segment.sample_rate_hz)
                self.offsets.append(self.offsets[-1] + len(levels))

    def finish(self) -> dict[str, object]:
        """Give the complete file its final name."""
        with storage_errors(self.path):
            self.raw.replace(self.path)
        return {"offsets": self.offsets, "scale": self.scale, "rate_hz": self.rate_hz}


def sound_file(path: Path) -> Path:
    """Where the sound of the store at ``path`` is: 16-bit samples, end to end."""
    return path.with_suffix(".pcm")


def _open_sound(path: Path, index: Mapping[str, Any] | None) -> SoundStore | None:
    if index is None:
        return None
    offsets = np.asarray(index["offsets"], np.int64)
    levels = np.memmap(sound_file(path), "<i2", "r") if offsets[-1] else np.empty(0, np.int16)
    if len(levels) != offsets[-1]:
        raise ValueError("sound and index disagree")
    scale, rate_hz = np.asarray(index["scale"], np.float32), np.asarray(index["rate_hz"], np.int64)
    return SoundStore(levels, offsets, scale, rate_hz)


def open_store(path: Path) -> SpectrogramStore:
    """Open a store that ``build_store`` wrote; raises RunFolderError if it is damaged."""
    index = read_json(path.with_suffix(".json"))
    array = path.with_suffix(".npy")
    try:
        offsets, firsts = (np.asarray(index[name], np.int64) for name in ("offsets", "firsts"))
        targets = np.asarray(index["targets"])
        values = np.load(array, mmap_mode="r", allow_pickle=False)
        sound = _open_sound(path, index.get("sound"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"damaged spectrogram store: {error}", where=str(array)) from error
    if len(values) != offsets[-1]:
        raise RunFolderError("spectrogram store and index disagree", where=str(array))
    kind = np.int64 if targets.ndim == 1 else np.float32
    clip_ids = tuple(index["clip_ids"])
    return SpectrogramStore(values, offsets, firsts, targets.astype(kind), clip_ids, sound)


def matches(
    path: Path, frontend: Frontend, clip_ids: Sequence[str], *, with_sound: bool = False
) -> bool:
    """Whether the store at ``path`` is intact and holds these clips with this front end."""
    try:
        store = open_store(path)
        index = read_json(path.with_suffix(".json"))
    except RunFolderError:
        return False
    same = index.get("spectro") == frontend.config.model_dump(mode="json")
    has_sound = store.sound is not None or not with_sound
    return bool(same and has_sound and set(store.clip_ids) <= set(clip_ids))


def _write_rows(path: Path, blocks: Iterable[npt.NDArray[np.float16]], num_bins: int) -> None:
    """Write blocks [frames, F] one after another as one .npy file, atomically."""
    temporary = path.with_name(f".{path.name}.tmp")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = temporary.with_suffix(".raw")
        total = 0
        with raw.open("wb") as handle:
            for block in blocks:
                total += len(block)
                handle.write(np.ascontiguousarray(block).tobytes())
        with temporary.open("wb") as handle, raw.open("rb") as source:
            header = {"descr": "<f2", "fortran_order": False, "shape": (total, num_bins)}
            np.lib.format.write_array_header_2_0(handle, header)
            while piece := source.read(1 << 22):
                handle.write(piece)
        temporary.replace(path)
        raw.unlink()
