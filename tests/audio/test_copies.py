"""Copies are told by all of their bytes, and by nothing less."""

from xmoe.audio.copies import find_copies
from xmoe.storage.mirror import local_path


def test_the_first_name_stands_for_all_copies(tmp_path, rng):
    data = rng.bytes(40_000)
    for name in ("b.wav", "a (copy).wav", "c/deep.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "other.wav").write_bytes(rng.bytes(40_000))
    names = ["c/deep.wav", "b.wav", "other.wav", "a (copy).wav", "b.wav"]
    assert find_copies(tmp_path, names) == dict.fromkeys(
        ("a (copy).wav", "b.wav", "c/deep.wav"), "a (copy).wav"
    )


def test_copies_are_found_among_recordings_of_other_places(tmp_path, bucket):
    address = f"{bucket}/x.wav"
    for path in (tmp_path / "a.wav", local_path(address)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"the same")
    names = ["a.wav", address]
    assert find_copies(tmp_path, names) == dict.fromkeys(names, "a.wav")


def test_one_bit_that_no_probe_reads_makes_another_recording(tmp_path, rng):
    data = bytearray(rng.bytes(40_000))
    (tmp_path / "a").write_bytes(data)
    data[3_000] ^= 1
    (tmp_path / "b").write_bytes(data)
    assert find_copies(tmp_path, ["a", "b"]) == {}


def test_what_is_empty_or_no_file_has_no_copies(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "nothing").touch()
    (tmp_path / "a").write_bytes(b"x")
    for folder in ("d", "e"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert (
        find_copies(tmp_path, ["a", "empty", "nothing", "missing", "dangling", "d", "e", "nul\0"])
        == {}
    )
