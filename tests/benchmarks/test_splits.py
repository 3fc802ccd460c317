"""Folds by source: each source is tested once, and the training knows them only if told."""

import csv
from pathlib import Path

import pytest

from tests.benchmarks.conftest import load_benchmark

LABELS, SOURCES, CLIPS = ("a", "b"), 6, 4


@pytest.fixture(scope="module")
def module():
    return load_benchmark("splits")


@pytest.fixture
def data(tmp_path):
    """A set of two classes, six speakers each of whom said both four times."""
    root = tmp_path / "fsdd"
    root.mkdir()
    names = [
        f"audio/{label}_speaker{source}_{clip}.wav,train,{label}"
        for label in LABELS
        for source in range(SOURCES)
        for clip in range(CLIPS)
    ]
    (root / "metadata.csv").write_text("\n".join(["filepath,split,label", *names]) + "\n")
    return tmp_path


def read(path):
    with Path(path).open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("is_told", [False, True])
def test_every_speaker_is_tested_once(module, data, tmp_path, is_told):
    speakers = next(one for one in module.SETS if one.name == "speakers")
    jobs = module.write_folds(speakers, data, tmp_path, is_told=is_told)
    tested = []
    for job in jobs:
        rows = read(job.manifest)
        assert len(rows) == len(LABELS) * SOURCES * CLIPS
        of_split = {
            split: {row["filepath"].split("_")[1] for row in rows if row["split"] == split}
            for split in ("train", "val", "test")
        }
        assert all(of_split.values())
        assert sum(map(len, of_split.values())) == SOURCES
        tested += of_split["test"]
        assert ("group" in rows[0]) == is_told
        if is_told:
            assert all(row["group"] in row["filepath"] for row in rows)
    assert len(jobs) == 3
    assert sorted(tested) == [f"speaker{source}" for source in range(SOURCES)]


def test_sources_are_dealt_in_proportion_and_the_only_one_of_a_class_is_kept(module):
    sources = [f"s{place // 2}" for place in range(40)] + ["lonely", "lonely"]
    labels = [("a", "b")[place // 20] for place in range(40)] + ["c", "a"]
    fold_of = module.deal_sources(sources, labels, 5)
    assert fold_of.pop("lonely") == -1
    for fold in range(5):
        own = [
            label for name, label in zip(sources, labels, strict=True) if fold_of.get(name) == fold
        ]
        assert sorted(own) == ["a"] * 4 + ["b"] * 4


def test_the_folds_of_a_set_are_taken_as_they_are(module, tmp_path):
    root = tmp_path / "esc10"
    root.mkdir()
    (root / "metadata.csv").write_text("filepath,split,label\naudio/1-77-A.ogg,train,dog\n")
    for fold in range(1, 6):
        content = f"filepath,split,label\naudio/1-77-A.ogg,{'test' if fold == 2 else 'train'},dog\n"
        (root / f"metadata_fold{fold}.csv").write_text(content)
    esc10 = next(one for one in module.SETS if one.name == "esc10")
    jobs = module.write_folds(esc10, tmp_path, tmp_path, is_told=True)
    assert [job.name for job in jobs] == [f"esc10-told-{fold}" for fold in range(1, 6)]
    rows = [read(job.manifest)[0] for job in jobs]
    assert [row["split"] for row in rows] == ["train", "test", "train", "train", "train"]
    assert {row["group"] for row in rows} == {"77"}


def test_gains_are_means_over_draws_with_their_standard_error(module):
    folds = [{"all": 90.0, "best": 88.0}, {"all": 80.0, "best": 82.0}, {"all": 70.0, "best": 67.0}]
    said = module.compare("sets", folds, "best")
    assert said == (
        "sets: all experts +1.0 ± 1.5 against best, no more than 1 point under it in 2 of 3"
    )
    assert module.average(folds) == {"all": 80.0, "best": 79.0}
