"""A recording -> events: the same for any blocks and threads, exact in time, bounded in memory."""

from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from tests.fixtures.closed_runs import write_backbone_run
from xmoe.annotate.events import MergeRules, Row, merge_events
from xmoe.annotate.recording import AnnotateOptions, annotate_recording, merge_rules
from xmoe.annotate.thresholds import ClassThreshold, Thresholds
from xmoe.audio.clip import read_clip
from xmoe.base.errors import AudioError, ConfigError
from xmoe.predict.predictor import Predictor

RULES = MergeRules(threshold=0.34, background=("background",))


def annotate(predictor, path, hop_s, **options):
    asked = AnnotateOptions(**{"hop_s": hop_s, "rules": RULES, **options})
    return annotate_recording(predictor, path, asked)


def halfway(rows, label):
    """Return a threshold that half of the rows of a class pass, between two of their values."""
    values = sorted(row.probability for row in rows if row.label == label)
    return sum(values[len(values) // 2 - 1 :][:2]) / 2


@pytest.mark.parametrize("rate_hz", [8000, 11_025])
@pytest.mark.parametrize("hop_s", [0.4, 0.1373, 0.61])
def test_events_are_those_of_predict_on_the_same_segments(predictor, write_sound, rate_hz, hop_s):
    path, samples = write_sound(5.21, rate_hz)
    hop, length = round(hop_s * rate_hz), round(0.4 * rate_hz)
    ends = [s + length for s in range(0, len(samples), hop) if s + length < len(samples)]
    edges = [(0, 0)]
    for end, later in pairwise([*ends, len(samples)]):
        start = later - length
        edges.append(((start + end) // 2,) * 2 if start <= end else (end, start))
    edges.append((len(samples), 0))
    rows = []
    for end, (_, first), (last, _) in zip([*ends, len(samples)], edges, edges[1:], strict=False):
        answer = predictor.predict(samples[end - length : end], rate_hz)
        rows += [
            Row(first / rate_hz, last / rate_hz, label, p)
            for label, p in answer.probabilities.items()
        ]
    rules = MergeRules(
        thresholds={label: halfway(rows, label) for label in ("click", "tone")},
        background=("background",),
    )
    wanted = merge_events(rows, rules)
    options = AnnotateOptions(hop_s=hop_s, rules=rules)
    found = annotate_recording(predictor, path, options).events
    assert len(found) >= 2
    assert [event[:3] for event in found] == [event[:3] for event in wanted]
    np.testing.assert_allclose([e.peak for e in found], [e.peak for e in wanted], atol=2e-5)


def test_blocks_and_threads_change_nothing(predictor, write_sound):
    path, _ = write_sound(7.77)
    first = annotate(predictor, path, 0.1)
    for threads, block_frames in ((1, 999), (2, 4096), (4, 1 << 20)):
        other = annotate(predictor, path, 0.1, threads=threads, block_frames=block_frames)
        assert other.events == first.events
        assert (other.windows, other.frames) == (first.windows, first.frames)


def test_what_was_heard_is_said(predictor, write_sound):
    path, samples = write_sound(1.1)
    done = annotate(predictor, path, 0.4)
    assert (done.windows, done.frames, done.duration_s) == (3, len(samples), 1.1)
    assert done.notes() == []
    path, _ = write_sound(0.3)
    assert annotate(predictor, path, 0.4).notes() == [
        "the recording (0.300 s) is shorter than a window"
    ]
    path, _ = write_sound(2.0)
    assert annotate(predictor, path, 1.0).notes() == [
        "the hop is longer than a window: 0.6 s between windows are left out"
    ]


def test_a_hop_of_no_sample_is_refused(predictor, write_sound):
    path, _ = write_sound(1.0)
    with pytest.raises(ConfigError, match="less than one sample"):
        annotate(predictor, path, 1e-6)


def test_a_network_is_woken_around_moments(tmp_path):
    predictor = Predictor.load(write_backbone_run(tmp_path / "run"))
    sound = 0.01 * np.random.default_rng(3).standard_normal(3 * 8000)
    sound[8000:9600] *= 20.0
    sf.write(tmp_path / "long.wav", sound, 8000)
    rules = MergeRules(background=predictor.config.classes[:1])
    never, woken = (
        annotate(predictor, tmp_path / "long.wav", 0.1, rules=rules, wake=p) for p in (1.0, 0.35)
    )
    assert never.woken == 0 < woken.woken < woken.windows / 2
    assert never.mean_k == 0.0 < woken.mean_k


def test_waking_needs_a_network_and_windows_that_meet(predictor, tmp_path, write_sound):
    path, _ = write_sound(1.0)
    with pytest.raises(ConfigError, match="no pretrained network is among the experts"):
        annotate(predictor, path, 0.4, wake=0.1)
    predictor = Predictor.load(write_backbone_run(tmp_path / "run"))
    with pytest.raises(ConfigError, match="every window holds an event"):
        annotate(predictor, path, 0.4, rules=MergeRules(), wake=0.1)
    with pytest.raises(ConfigError, match="every class of this run is background"):
        annotate(
            predictor, path, 0.4, rules=MergeRules(background=predictor.config.classes), wake=0.1
        )
    rules = MergeRules(background=predictor.config.classes[:1])
    with pytest.raises(ConfigError, match="between windows") as caught:
        annotate(predictor, path, 0.5, rules=rules, wake=0.1)
    assert caught.value.mend == "give a --hop of 0.4 s, the length of a window, or less"


def test_every_window_can_be_written(predictor, write_sound, tmp_path):
    path, _ = write_sound(3.0)
    options = AnnotateOptions(hop_s=0.2, rules=RULES)
    done = annotate_recording(predictor, path, options, windows_to=tmp_path / "out" / "w.parquet")
    table = pq.read_table(tmp_path / "out" / "w.parquet")
    assert table.num_rows == done.windows
    assert table.column_names[3:] == ["p_click", "p_tone", "p_background"]
    assert table["start_s"].to_pylist() == [i * 1600 / 8000 for i in range(done.windows)]


def test_a_recording_that_is_cut_short_leaves_no_table(predictor, tmp_path):
    path = tmp_path / "cut.flac"
    sf.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 80_000).astype(np.float32), 8000)
    path.write_bytes(path.read_bytes()[:60_000])
    options = AnnotateOptions(hop_s=0.2, rules=RULES, block_frames=4000)
    with pytest.raises(AudioError) as caught:
        annotate_recording(predictor, path, options, windows_to=tmp_path / "w.parquet")
    assert caught.value.code == "truncated"
    assert [file.name for file in tmp_path.iterdir()] == ["cut.flac"]


def test_rules_are_the_runs_own_unless_given():
    one = ClassThreshold(threshold=0.7, f1=0.9, clips=20, reason="")
    thresholds = Thresholds(background=("noise",), classes={"whale": one})
    rules = merge_rules(thresholds, threshold=None, keep=0.5)
    assert (rules.threshold_of("whale"), rules.keep, rules.background) == (0.7, 0.5, ("noise",))
    rules = merge_rules(thresholds, threshold=0.2, background=())
    assert (rules.threshold_of("whale"), rules.background) == (0.2, ())


def test_progress_reaches_its_end(predictor, write_sound):
    path, _ = write_sound(2.0)
    seen = []
    annotate_recording(
        predictor,
        path,
        AnnotateOptions(hop_s=0.4),
        progress=lambda stage, done, total=None, note="": seen.append((stage, done, total)),
    )
    assert seen[-1] == ("annotate", 5, 5)


@pytest.mark.parametrize(
    ("left", "right", "doubt"),
    [
        (lambda x: x, lambda x: -x, "silent"),
        (lambda x: 0 * x, lambda x: 0 * x, "silent"),
        (lambda x: np.sign(x), lambda x: np.sign(x), "clipped"),
        (lambda x: x, lambda x: x, None),
    ],
)
def test_a_long_recording_is_doubted_as_a_short_one(predictor, tmp_path, left, right, doubt):
    path, tone = tmp_path / "a.wav", 0.5 * np.sin(np.arange(6 * 8000) * 0.01)
    sf.write(path, np.stack([left(tone), right(tone)], 1), 8000, subtype="PCM_16")
    done = annotate(predictor, path, 0.5)
    clip = read_clip(path)
    assert list(done.warnings) == predictor.doubts(clip.decoded)
    assert [text.partition(":")[0] for text in done.warnings] == ([doubt] if doubt else [])
