"""A run folder and, if they can be found, its recordings -> ``report.html``.

The report itself knows no model; here it is given one that shows and plays the most certain
mistakes: the segment that is surest of the answer, with the saliency that the router read.
"""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch

from xmoe.audio.clip import read_clip
from xmoe.audio.dataset import Example, empty_dataset, load_dataset
from xmoe.audio.resample import resample
from xmoe.base.errors import DatasetError, XmoeError
from xmoe.base.progress import Progress, silent
from xmoe.explain.scales import scales_of
from xmoe.explain.show.canvas import draw_map, draw_spectrogram
from xmoe.explain.subject import surest_segment
from xmoe.glance.saliency import saliency_map
from xmoe.pictures.style import INK, new_figure, to_png
from xmoe.predict.predictor import Predictor
from xmoe.report.mistakes import Illustration
from xmoe.report.records import RunRecords
from xmoe.report.report import write_report
from xmoe.run.folder import RunFile
from xmoe.storage.mirror import is_address

HEARD_HZ = 48_000  # above this rate there is ultrasound
PLAYED_HZ = 22_050  # small enough for a page with ten sounds
MOST_PLAYED_S = 6.0


class MistakeIllustrator:
    """Clip id -> what the router saw of the clip, and its sound."""

    def __init__(
        self, records: RunRecords, root: str | Path, metadata: str | Path | None = None
    ) -> None:
        self._records = records
        self._predictor = Predictor.load(records.folder.path)
        task = records.config.model.task
        self._dataset = (
            load_dataset(root, metadata, task=task)
            if metadata is not None
            else empty_dataset(root, records.config.classes, task)
        )
        self._examples = {example.clip_id: example for example in self._dataset.examples}

    @torch.no_grad()
    def __call__(self, clip_id: str) -> Illustration:
        """Picture and sound of a clip; AudioError or DatasetError where there is no recording."""
        example = self._examples.get(clip_id) or self._example(clip_id)
        path = replace(self._dataset, examples=(example,)).fetch().path(example)
        clip = read_clip(path, start_s=example.start_s, end_s=example.end_s)
        predictor = self._predictor
        segments = predictor.cut(clip.samples, clip.sample_rate_hz)
        specs = predictor.measure(segments)
        surest = surest_segment(predictor, specs, predictor.sound_of(segments))
        spec = specs[surest : surest + 1]
        saliency = saliency_map(predictor.model.glance(spec).cam, spec)[0].numpy()
        wav, slowed = encode_wav(segments[surest].samples, clip.sample_rate_hz)
        expected = self._records.clips.get(clip_id, {}).get("content_sha256")
        changed = expected not in (None, clip.content_sha256)
        notes = [slowed, "The file is not the one that the run was made with." if changed else ""]
        return Illustration(
            png=self._draw(spec[0].numpy(), saliency, segments[surest].span_s),
            alt=f"Spectrogram of {clip_id} with the saliency of the router over it",
            wav=wav,
            note=" ".join(note for note in notes if note),
        )

    def _example(self, clip_id: str) -> Example:
        """The part of a file that the clip table means."""
        row = self._records.clips.get(clip_id)
        if row is None:
            raise DatasetError(f"the clip is not in {RunFile.CLIPS}", where=clip_id)
        return Example(
            filepath=str(row["filepath"]),
            split=str(row["split"]),
            labels=(),
            start_s=row["start_s"],
            end_s=row["end_s"],
        )

    def _draw(
        self,
        spec: npt.NDArray[np.floating],
        saliency: npt.NDArray[np.floating],
        span_s: tuple[float, float],
    ) -> bytes:
        scales = scales_of(self._predictor.frontend, spec.shape[1], span_s)
        figure = new_figure(4.6, 2.9)
        axes = figure.add_subplot()
        draw_spectrogram(axes, spec, scales)
        draw_map(axes, saliency, scales)
        axes.tick_params(colors=INK)
        return to_png(figure)


def encode_wav(samples: npt.NDArray[np.float32], rate_hz: int) -> tuple[bytes, str]:
    """A small 16-bit WAV, and a sentence on what was done to make it audible.

    Ultrasound is slowed down; everything else is brought to at most 22.05 kHz.
    """
    note = ""
    if rate_hz > HEARD_HZ:
        slower = math.ceil(rate_hz / HEARD_HZ)
        rate_hz, note = round(rate_hz / slower), f"Played {slower} times slower."
    samples = samples[: round(MOST_PLAYED_S * rate_hz)]
    if rate_hz > PLAYED_HZ:
        samples, rate_hz = resample(samples, from_hz=rate_hz, to_hz=PLAYED_HZ), PLAYED_HZ
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > 0:
        samples = samples * np.float32(0.9 / peak)
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate_hz, format="WAV", subtype="PCM_16")
    return buffer.getvalue(), note


def report_run(
    run: str | Path,
    *,
    dataset_dir: str | Path | None = None,
    metadata_csv: str | Path | None = None,
    out: str | Path | None = None,
) -> Path:
    """Write the report of a run and return its path.

    Recordings are looked for in ``dataset_dir``, or where the run was made from; where they are not
    found the report says so.
    """
    records, absent = RunRecords(run), ""
    illustrate: MistakeIllustrator | None = None
    try:
        root = dataset_dir if dataset_dir is not None else records.dataset["root"]
        if is_address(root) or Path(root).is_dir():
            illustrate = MistakeIllustrator(records, root, metadata_csv)
        else:
            absent = f"the recordings are not at {root}; say where they are with --dataset"
    except (XmoeError, KeyError, TypeError) as error:
        absent = str(error)
    absent = f"Spectrograms and sounds are absent: {absent}." if absent else ""
    return write_report(run, out, illustrate=illustrate, absent=absent)


def try_report(run: str | Path, *, progress: Progress = silent) -> None:
    """Write the report at the end of a training, which a failure here must not fail."""
    try:
        where = str(report_run(run))
    except Exception as error:  # the run is complete without it
        where = f"not written: {error}"
    progress("report", 1, 1, where)
