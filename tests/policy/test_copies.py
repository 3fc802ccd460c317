"""Clean and noisy copies: what is cropped, how much noise, what comes out for every candidate."""

from dataclasses import replace

import numpy as np
import pytest

from xmoe.audio.dataset import Example
from xmoe.base.config import SpectroConfig
from xmoe.policy.copies import NOISE_SNR_DB, loudest_part, measure_copies, noisy_copy

SPECTRO = SpectroConfig(
    sample_rate_hz=8000,
    fmin_hz=50.0,
    fmax_hz=4000.0,
    n_fft=256,
    win_length=200,
    hop_length=80,
    num_bins=32,
    segment_s=0.25,
)
CANDIDATES = {"logmel": SPECTRO, "stft": SPECTRO.model_copy(update={"frontend": "stft"})}


def test_a_short_clip_is_left_alone(rng):
    samples = rng.standard_normal(100).astype(np.float32)
    assert loudest_part(samples, 100) is samples
    assert loudest_part(samples, 200) is samples


@pytest.mark.parametrize("start", [0, 250, 700, 900])
def test_the_loudest_part_holds_the_event(rng, start):
    samples = (0.01 * rng.standard_normal(1000)).astype(np.float32)
    samples[start : start + 80] += 1.0
    part = loudest_part(samples, 100)
    assert len(part) == 100
    assert (part > 0.5).sum() >= 75


def test_the_last_sample_can_be_reached():
    samples = np.zeros(1003, dtype=np.float32)
    samples[-1] = 1.0
    assert loudest_part(samples, 100)[-1] == 1.0


def test_noise_is_as_loud_as_it_should_be(rng):
    samples = np.sin(np.arange(8000) / 3).astype(np.float32)
    for seed in range(10):
        noise = noisy_copy(samples, np.random.default_rng(seed)) - samples
        snr_db = 10 * np.log10(np.mean(samples**2) / np.mean(noise**2))
        assert NOISE_SNR_DB[0] - 0.1 <= snr_db <= NOISE_SNR_DB[1] + 0.1


def test_noise_has_several_colours():
    samples = np.sin(np.arange(8000) / 3).astype(np.float32)
    tilts = set()
    for seed in range(20):
        noise = noisy_copy(samples, np.random.default_rng(seed)) - samples
        power = np.abs(np.fft.rfft(noise)) ** 2
        ratio_db = 10 * np.log10(power[10:100].mean() / power[1000:3000].mean())
        tilts.add(round(ratio_db / 15))
    assert len(tilts) >= 3


def test_features_for_every_clip_copy_and_candidate(tones):
    examples = tones.split("train")[:6]
    heard, features = measure_copies(tones, examples, CANDIDATES, seed=0)
    assert heard == list(examples)
    assert list(features) == ["logmel", "stft"]
    for table in features.values():
        assert table.shape[:2] == (6, 2)
        assert np.isfinite(table).all()
        assert not np.allclose(table[:, 0], table[:, 1])
    assert not np.allclose(features["logmel"], features["stft"])


def test_clips_that_cannot_be_read_are_left_out(tones):
    ghost = Example(filepath="gone.wav", split="train", labels=("low",))
    examples = [*tones.split("train")[:2], ghost, *tones.split("train")[2:4]]
    heard, features = measure_copies(tones, examples, CANDIDATES, seed=0)
    assert ghost not in heard
    assert len(heard) == len(features["logmel"]) == 4


def test_no_readable_clip_gives_nothing(tones):
    ghost = Example(filepath="gone.wav", split="train", labels=("low",))
    assert measure_copies(tones, [ghost], CANDIDATES, seed=0) == ([], {})


def test_order_is_kept_and_everything_repeats(tones):
    examples = tones.split("train")[:9]
    first = measure_copies(tones, examples, CANDIDATES, seed=0)[1]["logmel"]
    again = measure_copies(tones, examples, CANDIDATES, seed=0)[1]["logmel"]
    assert first.tobytes() == again.tobytes()
    alone = measure_copies(tones, examples[:1], CANDIDATES, seed=0)[1]["logmel"]
    assert alone[0] == pytest.approx(first[0], abs=1e-5)


def test_other_rates_are_resampled(tones):
    fast = {
        "logmel": SpectroConfig.model_validate(
            SPECTRO.model_dump() | {"sample_rate_hz": 16_000, "hop_length": 160}
        )
    }
    _, features = measure_copies(tones, tones.split("train")[:2], fast, seed=0)
    assert features["logmel"].shape[:2] == (2, 2)


def test_progress_counts_every_clip(tones):
    seen = []

    def note(stage, done, total=None, note=""):
        seen.append((done, total))

    ghost = replace(tones.examples[0], filepath="gone.wav")
    examples = [ghost, *tones.split("train")[:2]]
    measure_copies(tones, examples, CANDIDATES, seed=0, progress=note)
    assert seen == [(1, 3), (2, 3), (3, 3)]
