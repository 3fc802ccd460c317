"""Sound recordings of two rates beside damaged ones: profiled and trained on, nothing unnamed."""

import csv
import shutil

import pytest

from xmoe.audio.clip import read_clip
from xmoe.audio.dataset import load_dataset
from xmoe.base.errors import AudioError
from xmoe.base.files import to_json
from xmoe.jobs.profile import run_profile
from xmoe.pipeline.classifier import MoEAudioClassifier
from xmoe.profile.assemble import profile_dataset


@pytest.fixture(scope="module")
def mixed(bad_files, real_data, tmp_path_factory):
    """Eighty digits at 8 kHz and twenty rains at 44.1 kHz, the damaged files among the rains."""
    root = tmp_path_factory.mktemp("mixed")
    rows = []

    def add(source, label, split):
        target = root / label / source.name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
        rows.append((f"{label}/{source.name}", split, label))

    digits = sorted((real_data / "fsdd" / "recordings").glob("*_theo_*.wav"))[:80]
    rains = sorted((real_data / "esc10" / "audio").rglob("*rain*/*.ogg"))[:20]
    for index, path in enumerate(digits + rains):
        label = "digit" if path.suffix == ".wav" else "rain"
        add(path, label, ("train", "train", "train", "val", "test")[index % 5])
    for path in sorted(bad_files.glob("*.*")):
        if path.suffix not in (".csv", ".md"):
            add(path, "rain", "train")
    lines = ["filepath,split,label", *(",".join(row) for row in rows)]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def unreadable(root):
    """Return the code of every file that the decoder refuses."""
    codes = {}
    for path in sorted(root.rglob("*.*")):
        if path.suffix == ".csv":
            continue
        try:
            read_clip(path)
        except AudioError as error:
            codes[path.relative_to(root).as_posix()] = error.code
    return codes


def test_every_damaged_file_is_named_and_the_rest_is_trained_on(mixed, undrawn, tmp_path):
    run = tmp_path / "run"
    model = MoEAudioClassifier(device="cpu").fit(mixed, out_dir=run, epochs=2, policy="rule")
    with (run / "quarantine.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    refused = unreadable(mixed)
    assert len(refused) >= 20
    assert {row["file"]: row["code"] for row in rows} == refused
    assert all(row["reason"] and row["what_to_do"] for row in rows)
    assert model.score(mixed) >= 0.5


def test_profile_has_the_same_bytes_for_any_workers_order_and_engine(mixed):
    dataset = load_dataset(mixed)
    once = to_json(profile_dataset(dataset, workers=1).profile)
    assert to_json(profile_dataset(dataset, workers=4).profile) == once
    turned = dataset.__class__(
        dataset.root, dataset.examples[::-1], dataset.classes, dataset.task, dataset.notes
    )
    assert to_json(run_profile(turned, workers=2).profile) == once
