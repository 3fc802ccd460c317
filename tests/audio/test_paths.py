"""Paths as tables write them lead to the file that is there, or stay as they are."""

import pytest

from xmoe.audio.paths import Finder

COMPOSED, DECOMPOSED = "\u00fc", "u\u0308"


@pytest.fixture
def root(tmp_path):
    for name in ("a/b.wav", f"{DECOMPOSED}/{COMPOSED}.wav", "Mixed/Case.WAV", "odd\\name.wav"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("a/b.wav", "a/b.wav"),
        ("./a//b.wav", "a/b.wav"),
        ("a/../a/b.wav", "a/b.wav"),
        ("a\\b.wav", "a/b.wav"),
        (".\\a\\b.wav", "a/b.wav"),
        ("odd\\name.wav", "odd\\name.wav"),
        (f"{COMPOSED}/{DECOMPOSED}.wav", f"{DECOMPOSED}/{COMPOSED}.wav"),
        (f"{COMPOSED}\\{COMPOSED}.wav", f"{DECOMPOSED}/{COMPOSED}.wav"),
        ("mixed/case.wav", "Mixed/Case.WAV"),
        ("not/there.wav", "not/there.wav"),
        ("not\\there.wav", "not/there.wav"),
        ("../else.wav", "../else.wav"),
        ("/else/where.wav", "/else/where.wav"),
        ("C:\\set\\a.wav", "C:/set/a.wav"),
        ("a\0b", "a\0b"),
    ],
)
def test_what_is_there_is_found(root, written, found):
    assert Finder(root).find(written) == found


def test_whole_paths_inside_are_made_relative(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    for place in (root, tmp_path / "link"):
        assert Finder(tmp_path / "link").find(f"{place}/a/b.wav") == "a/b.wav"


def test_a_name_that_fits_two_files_is_left_alone(root):
    (root / "mixed").mkdir()
    assert Finder(root).find("MIXED/Case.WAV") == "MIXED/Case.WAV"
    assert Finder(root).find("Mixed/Case.WAV") == "Mixed/Case.WAV"


def test_folders_beside_names(tmp_path):
    for name in ("set/a/1.wav", "set/1.wav", "set/b/2.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    finder = Finder(tmp_path)
    names, folders = ["set/1.wav", "set/1.wav", "set/b/2.wav"], ["a", "", "gone"]
    assert finder.find_beside(names, folders, "set/") == ["set/a/1.wav", "set/1.wav", "set/b/2.wav"]
    assert finder.find_beside(names[:1], ["gone"], "set/") == ["set/1.wav"]
    assert finder.holds("set\\a\\1.wav")
    assert not finder.holds("set/c/1.wav")
