"""``xmoe profile`` prints, draws and keeps what a folder is like, and names what is wrong."""

import csv
import json
import shutil

import pytest

from tests.fixtures.stores import upload
from xmoe.audio.synth import SynthConfig, write_dataset
from xmoe.cli import main
from xmoe.storage.place import open_place


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    config = SynthConfig(num_clips=40, classes=2, duration_s=0.5, sample_rates_hz=(8000,))
    return write_dataset(tmp_path_factory.mktemp("synth"), config)


def run_json(capsys, *args):
    with pytest.raises(SystemExit) as left:
        main(["profile", *map(str, args), "--json", "-q"])
    return left.value.code, json.loads(capsys.readouterr().out)


def read_rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_profile_is_printed_and_kept(small_set, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["profile", str(small_set), "--out", str(tmp_path), "-q"])
    shown = capsys.readouterr().out
    assert left.value.code == 0
    assert "8 kHz x 40" in shown
    for name in ("profile.json", "clips.parquet", "quarantine.csv", "profile.png"):
        assert (tmp_path / name).stat().st_size > 0


def test_json_holds_the_profile_and_where_the_files_are(small_set, undrawn, tmp_path, capsys):
    code, fields = run_json(capsys, small_set, "--out", tmp_path)
    assert code == 0
    assert fields["profile"]["num_clips"] == 40
    assert fields["profile"]["fs_unique"] == {"8000": 40}
    assert fields["files"]["picture"] == str(tmp_path / "profile.png")
    assert json.loads((tmp_path / "profile.json").read_text()) == fields["profile"]


def test_bad_file_is_quarantined_and_an_error_only_when_strict(
    small_set, undrawn, tmp_path, capsys
):
    root = shutil.copytree(small_set, tmp_path / "set")
    bad = sorted((root / "audio").iterdir())[3]
    bad.write_bytes(b"not a recording")
    code, fields = run_json(capsys, root, "--out", tmp_path / "out")
    assert code == 0
    assert [row["filepath"] for row in fields["quarantined"]] == [f"audio/{bad.name}"]
    rows = read_rows(tmp_path / "out" / "quarantine.csv")
    assert rows[0]["file"] == f"audio/{bad.name}"
    assert rows[0]["what_to_do"]
    code, fields = run_json(capsys, root, "--out", tmp_path / "out", "--strict")
    assert (code, fields["error"]) == (2, "DatasetError")
    assert fields["where"].endswith("quarantine.csv")


def test_same_content_in_train_and_test_is_a_finding(small_set, undrawn, tmp_path, capsys):
    root = shutil.copytree(small_set, tmp_path / "set")
    rows = read_rows(root / "metadata.csv")
    train = next(row for row in rows if row["split"] == "train")
    wanted = {"split": "test", "label": train["label"]}
    test = next(row for row in rows if {key: row[key] for key in wanted} == wanted)
    shutil.copy(root / train["filepath"], root / test["filepath"])
    code, fields = run_json(capsys, root, "--out", tmp_path / "out")
    assert code == 0
    files = {name for finding in fields["findings"] for name in finding["files"]}
    assert {train["filepath"], test["filepath"]} <= files
    assert run_json(capsys, root, "--out", tmp_path / "out", "--strict")[0] == 2


def test_folder_without_recordings_is_the_users_mistake(tmp_path, capsys):
    code, fields = run_json(capsys, tmp_path)
    assert (code, fields["error"]) == (2, "DatasetError")


def test_from_a_store_to_a_store_gives_the_same_bytes(small_set, undrawn, bucket, tmp_path, capsys):
    address, out = upload(small_set, f"{bucket}/set"), f"{bucket}/profiles/one"
    code, fields = run_json(capsys, address, "--out", out)
    assert (code, fields["files"]["profile"]) == (0, f"{out}/profile.json")
    run_json(capsys, small_set, "--out", tmp_path)
    for name in ("profile.json", "clips.parquet", "quarantine.csv"):
        assert (open_place(out) / name).read() == (tmp_path / name).read_bytes()
