"""The files of a profile: canonical, and refused where they are torn."""

import json

import pytest

from xmoe.base.errors import RunFolderError
from xmoe.base.files import to_json, write_json
from xmoe.profile.assemble import merge_stats
from xmoe.profile.profile import read_clip_table, read_profile, write_clip_table


def test_json_is_canonical_finite_and_comes_back(make_rows, tmp_path):
    profile = merge_stats(make_rows(20))
    path = tmp_path / "profile.json"
    write_json(path, profile)
    assert path.read_text() == to_json(profile)
    assert read_profile(path) == profile
    parsed = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert list(parsed) == sorted(parsed)


@pytest.mark.parametrize("text", ["{", '{"task": "other"}', None])
def test_torn_or_foreign_profile_is_refused(tmp_path, text):
    path = tmp_path / "profile.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RunFolderError):
        read_profile(path)


def test_clip_table_comes_back(make_rows, tmp_path):
    rows = make_rows(5)
    write_clip_table(tmp_path / "clips.parquet", reversed(rows))
    assert read_clip_table(tmp_path / "clips.parquet") == rows
    with pytest.raises(RunFolderError):
        read_clip_table(tmp_path / "none.parquet")
