"""What a kernels expert hears: spans at its own rate, one level for all, features without seams."""

import numpy as np
import pytest
import torch

from xmoe.audio.segment import Segment
from xmoe.audio.sound import hold_sound
from xmoe.base.config import KernelsSpec, SpectroConfig
from xmoe.experts.kernels import (
    KernelsEar,
    KernelsExpert,
    macs_per_s,
)
from xmoe.experts.protocol import Inputs
from xmoe.experts.sound import cut_spans

RATE_HZ = 8000
SPECTRO = SpectroConfig(
    sample_rate_hz=RATE_HZ,
    fmax_hz=4000.0,
    n_fft=256,
    win_length=200,
    hop_length=80,
    num_bins=16,
    segment_s=1.0,
)


def make_spec(**changes):
    spectro = SPECTRO.model_copy(update=changes)
    return KernelsSpec(name="one", family="broadband", spectro=spectro, kernels=4)


def noise(seconds, *, seed=0, level=0.1):
    generator = np.random.default_rng(seed)
    return (level * generator.standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


@pytest.mark.parametrize("frontend", ["logmel", "pcen", "stft", "cqt", "cwt"])
def test_features_are_as_many_for_any_length(frontend):
    ear = KernelsEar(make_spec(frontend=frontend))
    for seconds in (0.05, 0.4, 1.3):
        features = ear.measure(noise(seconds), RATE_HZ)
        assert features.shape == (ear.num_features,)
        assert np.isfinite(features).all()


def test_one_span_over_all_is_the_whole_clip():
    ear, samples = KernelsEar(make_spec()), noise(1.0)
    whole = ear.measure(samples, RATE_HZ)
    assert ear.measure(samples, RATE_HZ, [(0.0, 1.0)]) == pytest.approx(whole)


def test_loudness_does_not_matter_but_that_of_spans_beside_each_other_does():
    ear = KernelsEar(make_spec())
    loud, quiet = noise(0.4, seed=1), noise(0.4, seed=2, level=0.001)
    both = np.concatenate([loud, quiet])
    spans = [(0.0, 0.4), (0.4, 0.8)]
    first, second = ear.see(both, RATE_HZ, spans)
    assert first.mean() > second.mean() + 1.0
    louder = ear.measure(5 * both, RATE_HZ, spans)
    assert louder == pytest.approx(ear.measure(both, RATE_HZ, spans), abs=1e-2)


def test_spans_in_pieces_measure_nearly_as_the_stretch_they_fill():
    ear, samples = KernelsEar(make_spec()), noise(2.0)
    whole = ear.measure(samples, RATE_HZ)
    halves = ear.measure(samples, RATE_HZ, [(0.0, 1.0), (1.0, 2.0)])
    other = ear.measure(noise(2.0, seed=9), RATE_HZ)
    assert np.abs(halves - whole).mean() < 0.4 * np.abs(other - whole).mean()


def test_no_seam_is_heard_between_spans():
    ear = KernelsEar(make_spec(segment_s=0.2))
    time_s = np.arange(RATE_HZ) / RATE_HZ
    tone = (0.1 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
    spans = [(0.1, 0.31), (0.5, 0.71)]
    apart = ear.measure(tone, RATE_HZ, spans)
    joined = ear.measure(np.concatenate(cut_spans(tone, RATE_HZ, spans)), RATE_HZ)
    alone = ear.measure(tone, RATE_HZ, [(0.1, 0.31)])
    assert np.abs(apart - alone).mean() < 0.5 * np.abs(joined - alone).mean()


def test_sound_at_another_rate_is_brought_to_the_experts_own():
    ear = KernelsEar(make_spec(sample_rate_hz=4000, fmax_hz=1500.0, hop_length=40, win_length=100))
    time_s = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 500 * time_s).astype(np.float32)
    high, low = ear.see(tone, 16_000)[0], ear.see(tone[::4].copy(), 4000)[0]
    assert high.shape == low.shape
    assert (high - low).abs()[:, 5:-5].mean() < 0.1


def test_what_is_shorter_than_the_window_is_followed_by_silence():
    ear, samples = KernelsEar(make_spec()), noise(0.4)
    alone = ear.measure(samples, RATE_HZ)
    assert alone == pytest.approx(ear.measure(np.pad(samples, (0, 4800)), RATE_HZ))
    assert ear.see(samples, RATE_HZ)[0].shape[1] == SPECTRO.num_frames
    longer = ear.see(noise(1.5), RATE_HZ)[0].shape[1]
    assert longer == 1 + 1.5 * SPECTRO.frame_rate_hz


def test_a_zoomed_expert_puts_its_rows_inside_its_band():
    ear = KernelsEar(make_spec(fmin_hz=1000.0, fmax_hz=2000.0))
    assert ear.spec.band_hz == (1000.0, 2000.0)
    centers = ear.frontend.bin_centers_hz
    assert float(centers[0]) > 1000
    assert float(centers[-1]) < 2000


@pytest.mark.parametrize("frontend", ["logmel", "cwt"])
def test_costs_are_counted_and_measured(frontend):
    spec = make_spec(frontend=frontend)
    twice = spec.model_copy(update={"kernels": 8})
    assert 0 < macs_per_s(spec) < macs_per_s(twice)


@pytest.fixture(scope="module")
def expert():
    """An expert with a head of random numbers."""
    made = KernelsExpert(make_spec(segment_s=0.4), num_classes=3, exclusive=True)
    generator = torch.Generator().manual_seed(0)
    made.head.weight.copy_(0.1 * torch.randn(made.head.weight.shape, generator=generator))
    return made


def pack(expert, clips, spans, rows=None):
    """Return the payload of clips (samples, rate) on spans, of each picked row its own."""
    sound = hold_sound([Segment(samples, rate, 0) for samples, rate in clips])
    inputs = Inputs(torch.zeros(len(clips), 0, 4, 1), torch.ones(len(clips)), 0.04, 2, sound)
    rows = torch.arange(len(clips)) if rows is None else rows
    return expert.pack(expert.spec, inputs, rows, torch.tensor(spans))


def test_partial_spans_are_answered_as_what_is_cut_by_hand(expert):
    clips = [(noise(0.4), RATE_HZ), (noise(0.2, seed=1), 2 * RATE_HZ)]
    spans = [[[0.0, 0.1], [0.1, 0.2], [0.3, 0.4]], [[0.0, 0.02], [0.04, 0.06], [0.06, 0.08]]]
    merged = [[(0.0, 0.2), (0.3, 0.4)], [(0.0, 0.02), (0.04, 0.08)]]
    payload = pack(expert, clips, spans)
    assert payload["pieces"].tolist() == [[1600, 800], [320, 640]]
    answers = expert.answer(payload)
    assert answers.exp().sum(1).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    for answer, (samples, rate), own in zip(answers, clips, merged, strict=True):
        features = torch.from_numpy(expert.ear.measure(samples, rate, own))
        assert answer.tolist() == pytest.approx(expert.head(features[None])[0].tolist(), abs=2e-3)


def test_a_row_is_answered_alike_alone_and_beside_longer_ones(expert):
    clips = [(noise(0.2, seed=1), RATE_HZ), (noise(0.4, seed=2), RATE_HZ), (noise(0.4), 16_000)]
    whole = [[[0.0, 0.4]]] * 3
    together = expert.answer(pack(expert, clips, whole))
    for row, clip in enumerate(clips):
        torch.testing.assert_close(together[[row]], expert.answer(pack(expert, [clip], whole[:1])))
    picked = expert.answer(pack(expert, clips, whole[:1], torch.tensor([2])))
    torch.testing.assert_close(picked, together[[2]])


def test_soft_answers_are_the_answers_and_reach_what_was_seen(expert):
    clips = [(noise(1.0), RATE_HZ), (noise(0.7, seed=1), RATE_HZ)]
    payload = pack(expert, clips, [[(0.0, 0.3), (0.5, 0.6)], [(0.1, 0.2), (0.4, 0.7)]])
    seen = expert.see(payload)
    assert [len(pieces) for pieces in seen] == [2, 2]
    leaves = [[piece.requires_grad_() for piece in pieces] for pieces in seen]
    said = torch.stack([expert.answer_pieces(pieces) for pieces in leaves])
    torch.testing.assert_close(said, expert.answer(payload))
    said[:, 0].sum().backward()
    assert all(piece.grad.abs().sum() > 0 for pieces in leaves for piece in pieces)


def test_without_sound_nothing_is_packed(expert):
    inputs = Inputs(torch.zeros(1, 0, 4, 1), torch.ones(1), 0.04, 2)
    with pytest.raises(ValueError, match="expert one hears sound"):
        expert.pack(expert.spec, inputs, torch.arange(1), torch.zeros(1, 1, 2))


def test_several_labels_are_told_as_log_odds():
    many = KernelsExpert(make_spec(), num_classes=3, exclusive=False)
    many.head.bias.copy_(torch.tensor([1.0, 0.0, -2.0]))
    features = torch.zeros(1, many.ear.num_features)
    assert many.head(features).tolist() == [[1.0, 0.0, -2.0]]


def test_a_spec_goes_through_json():
    spec = make_spec()
    assert KernelsSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.kind == "kernels"
