"""Before anything is trained: what is refused, what is left out, what is decided once."""

import csv
import json
from pathlib import Path

import pytest

from xmoe.audio.dataset import Dataset, Example
from xmoe.base.errors import AudioError, ConfigError, DatasetError
from xmoe.pipeline.decide import decide, keep_readable
from xmoe.policy.policy import Choice, Policy, PolicyOverrides
from xmoe.run.folder import RunFile, RunFolder

BROKEN = {
    "00.wav": "not_audio",
    "05.wav": "truncated",
    "08.wav": "empty",
    "14.wav": "missing",
}


def decide_in(request, **settings):
    return decide(RunFolder(request.out_dir), request, **settings)


def quarantined(run):
    with (run / "quarantine.csv").open(newline="") as handle:
        return {row["file"]: row["code"] for row in csv.DictReader(handle)}


@pytest.fixture(scope="module")
def partly_broken(write_tones, tmp_path_factory):
    """Forty tones, of which one is garbage, one cut off, one empty and one missing."""
    root = write_tones(tmp_path_factory.mktemp("broken"), clips=40)
    (root / "00.wav").write_bytes(b"garbage" * 100)
    whole = (root / "05.wav").read_bytes()
    (root / "05.wav").write_bytes(whole[: len(whole) // 2])
    (root / "08.wav").write_bytes(b"")
    (root / "14.wav").unlink()
    return root


def test_what_was_decided_is_taken_up_where_a_run_resumes(tones, request_for, tmp_path):
    def refuse(dataset, **settings):
        raise AssertionError("was profiled again")

    first, dataset = decide_in(request_for(tones, tmp_path))
    assert first == RunFolder(tmp_path).read_config()
    again = decide_in(request_for(tones, tmp_path, resume=True, profiler=refuse))
    assert again == (first, dataset)


def test_policy_chooses_the_fit_and_a_resumed_run_keeps_it(
    tones, request_for, tmp_path, monkeypatch
):
    both = Choice(name="fit", value="both", reason="loud")
    monkeypatch.setattr("xmoe.pipeline.decide.decide_fit", lambda profile: both)
    asked = {"fit_by_policy": True, "train": {"fit": "closed"}}
    config, _ = decide_in(request_for(tones, tmp_path, **asked))
    assert config.train.fit == "both"
    policy = RunFolder(tmp_path).read_record(RunFile.POLICY, Policy)
    assert policy.choices[-1] == both
    again, _ = decide_in(request_for(tones, tmp_path, resume=True, **asked))
    assert again == config


@pytest.mark.parametrize(
    ("train", "named"),
    [({"batch_size": 7}, "batch_size"), ({"epochs": 9, "seed": 1}, "epochs, seed")],
)
def test_other_settings_are_refused_on_resume(copied, tones, request_for, train, named):
    with pytest.raises(ConfigError, match=f"other settings for: {named}"):
        decide_in(request_for(tones, copied, train=train, resume=True))


def test_wishes_that_a_resumed_run_would_ignore_are_refused(copied, tones, request_for):
    frontend = RunFolder(copied).read_config().spectro.frontend
    other = PolicyOverrides(frontend="stft" if frontend != "stft" else "logmel")
    with pytest.raises(ConfigError, match=f"was begun with frontend {frontend}"):
        decide_in(request_for(tones, copied, overrides=other, resume=True))
    same = PolicyOverrides(frontend=frontend)
    assert decide_in(request_for(tones, copied, overrides=same, resume=True))
    RunFolder(copied).write_record(RunFile.CLOSED, {})
    with pytest.raises(ConfigError, match="was begun with the budget") as raised:
        decide_in(request_for(tones, copied, budget="3ms", resume=True))
    assert "xmoe calibrate" in str(raised.value)


def test_other_classes_are_refused_on_resume(copied, write_tones, request_for, tmp_path):
    root = write_tones(tmp_path / "other")
    text = (root / "metadata.csv").read_text().replace("top", "whale")
    (root / "metadata.csv").write_text(text)
    with pytest.raises(ConfigError, match="low, top; the data has low, whale"):
        decide_in(request_for(root, copied, resume=True))


def test_bad_recordings_are_named_and_left_out(partly_broken, request_for, tmp_path):
    notes = []
    _, dataset = decide_in(
        request_for(partly_broken, tmp_path),
        progress=lambda stage, done, total=None, note="": notes.append((stage, note)),
    )
    assert quarantined(tmp_path) == BROKEN
    clips = json.loads((tmp_path / "dataset.json").read_text())["clips"]
    assert clips == {"train": 22, "val": 7, "test": 7}
    assert {split: len(dataset.split(split)) for split in clips} == clips
    (said,) = [note for stage, note in notes if stage == "quarantine"]
    assert said.startswith("4 recordings left out (00.wav: ")


def test_strict_makes_the_first_bad_recording_an_error(partly_broken, request_for, tmp_path):
    with pytest.raises(AudioError, match=r"4 such recordings; --strict allows none") as raised:
        decide_in(request_for(partly_broken, tmp_path, strict=True))
    assert raised.value.where == "00.wav"
    assert quarantined(tmp_path) == BROKEN
    assert not (tmp_path / "run_config.json").exists()


def test_other_parts_of_a_file_stay_when_one_cannot_be_read():
    parts = tuple(Example("a.wav", "train", ("x",), start_s=s, end_s=s + 1.0) for s in (1.0, 9.0))
    dataset = Dataset(Path("set"), (*parts, Example("b.wav", "val", ("y",))), ("x", "y"), "x")
    kept = keep_readable(dataset, {"a.wav@1-2", "b.wav"})
    assert [example.clip_id for example in kept.examples] == ["a.wav@1-2", "b.wav"]


def test_same_sound_in_train_and_test_is_refused(write_tones, request_for, tmp_path):
    root = write_tones(tmp_path / "set", clips=20)
    (root / "04.wav").write_bytes((root / "00.wav").read_bytes())
    with pytest.raises(DatasetError, match="the same sound is in test and outside it"):
        decide_in(request_for(root, tmp_path / "run"))
    assert not (tmp_path / "run" / "run_config.json").exists()


def test_more_experts_than_there_are_is_refused(tones, request_for, tmp_path):
    with pytest.raises(ConfigError, match=r"budget 7\.5"):
        decide_in(request_for(tones, tmp_path, budget=7.5))


def test_split_that_was_made_is_said_and_kept(write_tones, request_for, tmp_path):
    root = write_tones(tmp_path / "set", clips=30)
    text = (root / "metadata.csv").read_text().replace(",val,", ",train,")
    (root / "metadata.csv").write_text(text)
    notes = []
    decide_in(
        request_for(root, tmp_path / "run", metadata_csv=root / "metadata.csv"),
        progress=lambda stage, done, total=None, note="": notes.append(note),
    )
    made = [note for note in notes if note.startswith("no val split was given: ")]
    assert len(made) == 1
    dataset = json.loads((tmp_path / "run" / "dataset.json").read_text())
    assert dataset["notes"] == made
    assert dataset["metadata"] == str(root / "metadata.csv")
    assert dataset["clips"]["val"] == 24 - dataset["clips"]["train"] > 0
