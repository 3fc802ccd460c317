"""Training clips -> probe features of a clean and a noisy copy of each, for every candidate.

Clips are decoded once and only features are kept, so memory does not grow with their length. All
candidates get the same segment with the same noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from xmoe.audio.augment import NOISE_EXPONENTS, add_noise
from xmoe.audio.clip import Clip
from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.resample import resample
from xmoe.audio.store import load_clips
from xmoe.base.config import SpectroConfig
from xmoe.base.errors import AudioError
from xmoe.base.progress import Progress, silent
from xmoe.base.threads import map_ahead
from xmoe.experts.kernel_bank import KernelBank
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import one_thread

NOISE_SNR_DB = (0.0, 20.0)
KERNELS = 32
WORKERS = 2
_CROP_STEPS = 8

Floats32 = npt.NDArray[np.float32]


def measure_copies(
    dataset: Dataset,
    examples: Sequence[Example],
    candidates: Mapping[str, SpectroConfig],
    *,
    seed: int,
    progress: Progress = silent,
) -> tuple[list[Example], dict[str, Floats32]]:
    """The readable examples, and features [n, 2, D] for each candidate.

    ``[:, 0]`` is clean, ``[:, 1]`` noisy. Candidates share rate and segment.
    """
    listen = _Listener(candidates, seed=seed)
    readable: list[Example] = []
    rows: dict[str, list[Floats32]] = {name: [] for name in candidates}

    def measure(one: tuple[int, tuple[Example, Clip | AudioError]]) -> dict[str, Floats32] | None:
        index, (_, clip) = one
        return None if isinstance(clip, AudioError) else listen(clip, index)

    with one_thread():
        clips = enumerate(load_clips(dataset, examples))
        measured = map_ahead(measure, clips, threads=WORKERS, name="race")
        for done, (example, features) in enumerate(zip(examples, measured, strict=True), 1):
            progress("race of front ends", done, len(examples))
            if features is not None:
                readable.append(example)
                for name, row in features.items():
                    rows[name].append(row)
    return readable, {name: np.stack(row) for name, row in rows.items() if row}


class _Listener:
    """One clip -> features [2, D] of its two copies, for every candidate."""

    def __init__(self, candidates: Mapping[str, SpectroConfig], *, seed: int) -> None:
        self.seed = seed
        self.bank = KernelBank(seed=seed, count=KERNELS)
        self.frontends = {name: build_frontend(config) for name, config in candidates.items()}
        self.spectro = next(iter(candidates.values()))

    def __call__(self, clip: Clip, index: int) -> dict[str, Floats32]:
        """Measure the clip; ``index`` seeds its noise."""
        part = loudest_part(clip.samples, round(self.spectro.segment_s * clip.sample_rate_hz))
        part = resample(part, from_hz=clip.sample_rate_hz, to_hz=self.spectro.sample_rate_hz)
        noisy = noisy_copy(part, np.random.default_rng([self.seed, 3, index]))
        copies = torch.from_numpy(np.stack([part, noisy]))
        with torch.no_grad():
            return {
                name: self.bank.measure(frontend(copies)).numpy()
                for name, frontend in self.frontends.items()
            }


def loudest_part(samples: Floats32, length: int) -> Floats32:
    """The ``length`` consecutive samples with the most energy, from starts an eighth apart.

    A clip that is not longer is returned as it is.
    """
    if len(samples) <= length:
        return samples
    step = max(length // _CROP_STEPS, 1)
    starts = np.append(np.arange(0, len(samples) - length, step), len(samples) - length)
    running = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    first = int(starts[np.argmax(running[starts + length] - running[starts])])
    return samples[first : first + length]


def noisy_copy(samples: Floats32, rng: np.random.Generator) -> Floats32:
    """The samples with noise of a random colour at 0 to 20 dB SNR."""
    colours = list(NOISE_EXPONENTS)
    colour = colours[int(rng.integers(len(colours)))]
    return add_noise(samples, snr_db=float(rng.uniform(*NOISE_SNR_DB)), color=colour, rng=rng)
