"""A run of another version is refused with both versions and what to do, wherever it lies."""

import json

import pytest

from xmoe.base.errors import RunFolderError, RunVersionError
from xmoe.base.version import VERSION
from xmoe.run.folder import RunFolder
from xmoe.run.remote import fetched, identify_run
from xmoe.run.version import OURS, check_version

RUNNING = f"xmoe {VERSION}, which is running, reads version {OURS}"
AGAIN = "train again: xmoe train --dataset DATASET --out NEW"


def refusal(settings, data=None):
    with pytest.raises(RunVersionError) as caught:
        check_version(settings, where="here", read_dataset=lambda: data)
    assert caught.value.where == "here"
    assert RUNNING in caught.value.what
    return caught.value.what.removesuffix(f"; {RUNNING}"), caught.value.mend


def test_version_that_is_read_passes():
    check_version({"schema_version": OURS}, where="here", read_dataset=lambda: None)


def test_older_run_is_trained_again():
    assert refusal({"schema_version": OURS - 1}) == (
        f"the run is of version {OURS - 1}",
        f"{AGAIN}; or install the xmoe that wrote it",
    )


def test_older_run_that_says_who_wrote_it():
    assert refusal({"schema_version": OURS - 1, "xmoe_version": "0.0.9"}) == (
        f"the run is of version {OURS - 1} (xmoe 0.0.9)",
        f"{AGAIN}; or install xmoe 0.0.9",
    )


@pytest.mark.parametrize(
    ("data", "command"),
    [
        ({"root": "/data/my set"}, "xmoe train --dataset '/data/my set' --out NEW"),
        (
            {"root": "/set", "metadata": "/m.csv"},
            "xmoe train --dataset /set --metadata /m.csv --out NEW",
        ),
        ({"root": "/set", "metadata": None}, "xmoe train --dataset /set --out NEW"),
        ({"root": 3}, "xmoe train --dataset DATASET --out NEW"),
        ([], "xmoe train --dataset DATASET --out NEW"),
    ],
)
def test_command_that_trains_again_is_what_the_records_tell(data, command):
    assert refusal({}, data)[1] == f"train again: {command}"


def test_newer_run_wants_a_newer_xmoe():
    what, mend = refusal({"schema_version": OURS + 1, "xmoe_version": "9.1.0"})
    assert what == f"the run was written by a newer xmoe: it is of version {OURS + 1} (xmoe 9.1.0)"
    assert mend == "install xmoe 9.1.0, or one that is newer still"
    assert "train" not in refusal({"schema_version": 10**30})[1]


@pytest.mark.parametrize("settings", [{}, {"schema_version": None}, [], "text", None])
def test_run_without_a_version(settings):
    assert refusal(settings) == (
        "the run names no schema_version: who wrote it is unknown",
        AGAIN,
    )


@pytest.mark.parametrize("odd", [str(OURS), float(OURS), True, 0, -1, [OURS], {}, "x" * 1000])
def test_version_that_is_none(odd):
    what, mend = refusal({"schema_version": odd})
    assert what.startswith(f"the run's schema_version is {json.dumps(odd)[:40]}")
    assert what.endswith("which is no version")
    assert len(what) < 120
    assert mend == AGAIN


@pytest.fixture
def old_run(tmp_path):
    """A run of the version before ours: nothing else in it is what is expected now."""
    folder = RunFolder(tmp_path / "old")
    folder.write_record("run_config.json", {"schema_version": OURS - 1, "fields": "of then"})
    folder.write_record("dataset.json", {"root": "/data/set"})
    return folder


def test_version_is_looked_at_before_the_fields(old_run):
    with pytest.raises(RunVersionError, match="--dataset /data/set --out NEW") as caught:
        old_run.read_config()
    assert caught.value.where == str(old_run.file("run_config.json"))


def test_version_is_looked_at_before_the_weights(old_run):
    with pytest.raises(RunVersionError):
        identify_run(old_run.path)
    with pytest.raises(RunVersionError), fetched(old_run.path, ["expert-low"]):
        pass


def test_run_at_an_address_is_named_by_its_address(old_run):
    with pytest.raises(RunVersionError, match="--dataset /data/set --out NEW") as caught:
        identify_run(f"file://{old_run.path}")
    assert caught.value.where == str(old_run.file("run_config.json"))


def test_run_at_an_address_without_a_record_of_its_data(old_run):
    old_run.file("dataset.json").unlink()
    with pytest.raises(RunVersionError, match="--dataset DATASET --out NEW"):
        identify_run(f"file://{old_run.path}")


@pytest.mark.parametrize("text", ["", "{", "\xff"])
def test_settings_that_are_torn_are_not_of_another_version(tmp_path, text):
    (tmp_path / "run_config.json").write_text(text, encoding="latin-1")
    with pytest.raises(RunFolderError, match="not readable as JSON") as caught:
        RunFolder(tmp_path).read_config()
    assert not isinstance(caught.value, RunVersionError)


def test_settings_that_are_missing_are_not_of_another_version(tmp_path):
    with pytest.raises(RunFolderError, match="no such file"):
        RunFolder(tmp_path).read_config()
