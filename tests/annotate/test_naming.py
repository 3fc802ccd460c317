"""No two recordings share a name, in one call or in several; the same one finds its own again."""

from pathlib import Path

from xmoe.annotate.naming import choose_stems, note_recording


def test_names_are_told_apart_by_folders_and_then_by_numbers(tmp_path):
    files = [Path(f"/set/site{n}/night/a.wav") for n in (1, 2, 3)] + [Path("/set/b.wav")]
    assert choose_stems(tmp_path, files) == ["a", "night_a", "site3_night_a", "b"]
    assert choose_stems(tmp_path, [Path("/a.wav"), Path("/a.flac"), Path("/a.wav")]) == [
        "a",
        "a_2",
        "a",
    ]


def test_a_recording_finds_its_own_name_again(tmp_path):
    first, second = Path("/one/a.wav"), Path("/two/a.wav")
    note_recording(tmp_path, "a", first)
    assert choose_stems(tmp_path, [second]) == ["two_a"]
    note_recording(tmp_path, "two_a", second)
    assert choose_stems(tmp_path, [second, first]) == ["two_a", "a"]
