"""A seed -> a data set of recordings whose events lie in known boxes of time and frequency.

It is the built-in default of ``xmoe``, the ground truth for saliency and the load for benchmarks.
Two kinds: *dense* (one event fills most of a clip of 1 s) and *sparse* (one event of 0.2 to 0.8 s
in 5 s). Each clip is from one of twenty sites, which fix its sampling rate and the colour of its
background noise; a site belongs to one split, so no test clip was recorded where a training clip
was.

SNR is the event's mean power over its own time divided by the background's mean power over the
clip, both over all frequencies. Clip ``index`` depends on ``(seed, index)`` only.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile as sf

from xmoe.audio.augment import coloured_noise, low_pass
from xmoe.audio.synth_events import EVENT_LABELS, EventBox, make_event, measure_box
from xmoe.audio.tables import read_table
from xmoe.base.errors import ConfigError, DatasetError
from xmoe.base.files import storage_errors, to_csv, write_bytes

SITE_SPLITS = (
    *("train", "train", "test", "train", "val", "train", "train", "test", "train", "train"),
    *("test", "train", "val", "train", "test", "train", "train", "test", "val", "train"),
)
BOX_COLUMNS = ("filepath", "label", "start_s", "end_s", "fmin_hz", "fmax_hz", "snr_db")
BURST_DB = (6.0, 15.0)
BURST_S = (0.05, 0.3)
CLIPPED_SHARE = (0.005, 0.05)


@dataclass(frozen=True)
class SynthConfig:
    """What to generate; ``classes`` takes the first of the eight event kinds in alphabetical order.

    ``duration_s`` defaults to 1 (dense) or 5 (sparse), ``event_s`` to 0.5-0.95 or 0.2-0.8 s.
    ``clipped_fraction`` and ``band_limited_fraction`` of the clips are overdriven, or low-passed
    above their event. Up to ``max_bursts`` loud noise bursts (6 to 15 dB over the background) are
    not events and have no boxes.
    """

    num_clips: int = 1000
    classes: int = 8
    sparse: bool = False
    duration_s: float | None = None
    event_s: tuple[float, float] | None = None
    sample_rates_hz: tuple[int, ...] = (16_000,)
    snr_db: tuple[float, float] = (-18.0, 8.0)
    clipped_fraction: float = 0.0
    band_limited_fraction: float = 0.0
    max_bursts: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        shortest, longest = self.event_range_s
        checks = (
            (self.num_clips >= 1, "num_clips must be at least 1"),
            (2 <= self.classes <= len(EVENT_LABELS), "classes must be from 2 to 8"),
            (0.05 <= shortest <= longest <= self.clip_s, "event_s must rise and fit into the clip"),
            (bool(self.sample_rates_hz), "sample_rates_hz must name a rate"),
            (min(self.sample_rates_hz, default=0) >= 4000, "rates below 4000 Hz are too low"),
            (self.snr_db[0] <= self.snr_db[1], "snr_db must not fall"),
            (0.0 <= self.clipped_fraction <= 1.0, "clipped_fraction must be from 0 to 1"),
            (0.0 <= self.band_limited_fraction <= 1.0, "band_limited_fraction: from 0 to 1"),
            (self.max_bursts >= 0, "max_bursts must not be negative"),
        )
        for right, what in checks:
            if not right:
                raise ConfigError(what, mend="see xmoe synth --help")

    @property
    def clip_s(self) -> float:
        return self.duration_s or (5.0 if self.sparse else 1.0)

    @property
    def event_range_s(self) -> tuple[float, float]:
        usual = (0.2, 0.8) if self.sparse else (0.5 * self.clip_s, 0.95 * self.clip_s)
        return self.event_s or usual

    @property
    def labels(self) -> tuple[str, ...]:
        return EVENT_LABELS[: self.classes]


class SynthClip(NamedTuple):
    """One clip: ``samples`` [S] float32 within -1..1, and the truth about it."""

    samples: npt.NDArray[np.float32]
    sample_rate_hz: int
    boxes: tuple[EventBox, ...]
    label: str
    snr_db: float


def generate_clip(config: SynthConfig, index: int) -> SynthClip:
    """Clip ``index``, the same for the same config in whatever order clips are made."""
    rng = np.random.default_rng([config.seed, index])
    site = index % len(SITE_SPLITS)
    rate = config.sample_rates_hz[site % len(config.sample_rates_hz)]
    label = config.labels[(index // len(SITE_SPLITS) + site) % config.classes]
    length = round(config.clip_s * rate)
    duration_s = rng.uniform(*config.event_range_s)
    top_hz = 0.45 * min(config.sample_rates_hz)
    event = make_event(label, duration_s=duration_s, sample_rate_hz=rate, top_hz=top_hz, rng=rng)
    event = event[:length]
    start = int(rng.integers(0, length - len(event) + 1))
    box = measure_box(label, event, start_s=start / rate, clip_s=length / rate, sample_rate_hz=rate)
    snr_db = float(rng.uniform(*config.snr_db))
    mix = coloured_noise(length, exponent=site_noise_exponent(config.seed, site), rng=rng)
    mix[start : start + len(event)] += 10 ** (snr_db / 20) * event
    _add_bursts(mix, rate, config.max_bursts, rng)
    if rng.uniform() < config.band_limited_fraction:
        cutoff_hz = rng.uniform(1.1 * box.fmax_hz, max(1.2 * box.fmax_hz, 0.4 * rate))
        mix = low_pass(mix, cutoff_hz=cutoff_hz, sample_rate_hz=rate)
    overdriven = bool(rng.uniform() < config.clipped_fraction)
    return SynthClip(_set_level(mix, overdriven, rng), rate, (box,), label, snr_db)


def site_noise_exponent(seed: int, site: int) -> float:
    """The tilt of a site's background: power falls as 1 / f^exponent, 0 to 1."""
    return float(np.random.default_rng([seed, site, 99]).uniform(0.0, 1.0))


def _add_bursts(
    mix: npt.NDArray[np.float64], rate: int, max_bursts: int, rng: np.random.Generator
) -> None:
    """Add broadband noise bursts to a mix [S] whose background has unit power, in place."""
    for _ in range(int(rng.integers(0, max_bursts + 1))):
        length = min(round(rng.uniform(*BURST_S) * rate), len(mix))
        start = int(rng.integers(0, len(mix) - length + 1))
        gain = 10 ** (rng.uniform(*BURST_DB) / 20)
        envelope = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 0.5
        mix[start : start + length] += gain * envelope * rng.standard_normal(length)


def _set_level(
    mix: npt.NDArray[np.float64], overdriven: bool, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Scale to a peak of 0.1 to 0.9, or drive 0.5 to 5 % of the samples into full scale."""
    magnitude = np.abs(mix)
    if overdriven:
        gain = 1.0 / float(np.quantile(magnitude, 1.0 - rng.uniform(*CLIPPED_SHARE)))
    else:
        gain = 10 ** rng.uniform(-1.0, -0.05) / float(magnitude.max())
    return np.clip(gain * mix, -1.0, 1.0).astype(np.float32)


def write_dataset(
    root: str | Path, config: SynthConfig, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write ``audio/*.wav`` (16 bit), ``metadata.csv`` and ``boxes.csv``; return ``root``.

    ``progress(done, total)`` is called after each clip. Raises ``StorageError``.
    """
    root = Path(root)
    rows: list[Sequence[object]] = [("filepath", "split", "label", "group")]
    boxes: list[Sequence[object]] = [BOX_COLUMNS]
    with storage_errors(root):
        (root / "audio").mkdir(parents=True, exist_ok=True)
        for index in range(config.num_clips):
            clip = generate_clip(config, index)
            filepath = f"audio/{index:06d}_{clip.label}.wav"
            _write_wav(root / filepath, clip)
            site = index % len(SITE_SPLITS)
            rows.append((filepath, SITE_SPLITS[site], clip.label, f"site_{site:02d}"))
            boxes += [_box_row(filepath, box, clip.snr_db) for box in clip.boxes]
            if progress is not None:
                progress(index + 1, config.num_clips)
        write_bytes(root / "boxes.csv", to_csv(boxes))
        write_bytes(root / "metadata.csv", to_csv(rows))
    return root


def _write_wav(path: Path, clip: SynthClip) -> None:
    """Write a clip all or nothing; StorageError names its file."""
    buffer = io.BytesIO()
    sf.write(buffer, clip.samples, clip.sample_rate_hz, format="WAV", subtype="PCM_16")
    with storage_errors(path):
        try:
            path.write_bytes(buffer.getvalue())
        except OSError:
            path.unlink(missing_ok=True)
            raise


def read_boxes(root: str | Path) -> dict[str, list[EventBox]]:
    """Read ``boxes.csv`` back: the boxes of the events of each filepath."""
    table = read_table(Path(root) / "boxes.csv")
    mend = "write the set again with xmoe synth"
    if missing := set(BOX_COLUMNS[:-1]) - set(table.columns):
        what = f"no column {', '.join(sorted(missing))}"
        raise DatasetError(what, where=str(table.path), mend=mend)
    boxes: dict[str, list[EventBox]] = {}
    for index, row in enumerate(table.rows):
        try:
            edges = [float(row[name]) for name in BOX_COLUMNS[2:6]]
        except ValueError:
            raise DatasetError("not a number", where=table.where(index), mend=mend) from None
        boxes.setdefault(row["filepath"], []).append(EventBox(row["label"], *edges))
    return boxes


def _box_row(filepath: str, box: EventBox, snr_db: float) -> tuple[object, ...]:
    times = (f"{box.start_s:.6f}", f"{box.end_s:.6f}")
    band = (f"{box.fmin_hz:.2f}", f"{box.fmax_hz:.2f}")
    return (filepath, box.label, *times, *band, f"{snr_db:.3f}")
