"""What ``check`` says of sound networks, and that it catches each planted fault by its name."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fixtures.backbones import describe, tiny_backbone, write_network
from xmoe.backbones import Backbone, check, load_backbone
from xmoe.backbones.check import check_backbone, make_sounds, sweep
from xmoe.backbones.presets import find_weights, write_preset


def wrong(checked):
    return [finding.name for finding in checked.findings if not finding.ok]


def test_a_sound_network(tmp_path):
    checked = check_backbone(tiny_backbone(tmp_path), tmp_path)
    assert wrong(checked) == []
    assert checked.ok
    assert checked.ms_per_window > 0.0
    assert checked.macs == 799 * 2 + 4 * 6  # slopes, weights
    assert all(finding.mend is None for finding in checked.findings)


@pytest.mark.parametrize(
    ("fault", "found"),
    [("constant", ["different"]), ("batch", ["batch"]), ("silence", ["silence"])],
)
def test_faults_of_networks(tmp_path, fault, found):
    write_network(tmp_path / "tiny.onnx", fault=fault)
    checked = check_backbone(describe(tmp_path / "tiny.onnx"), tmp_path)
    assert wrong(checked) == found
    assert all(finding.mend for finding in checked.findings if not finding.ok)


def test_one_by_one_mends_a_network_that_looks_across_its_batch(tmp_path):
    write_network(tmp_path / "tiny.onnx", fault="batch")
    card = describe(tmp_path / "tiny.onnx", file={"one_by_one": True})
    assert wrong(check_backbone(card, tmp_path)) == []


def test_another_file_than_the_card_was_made_of(tmp_path):
    card = tiny_backbone(tmp_path)
    write_network(tmp_path / "tiny.onnx", fault="constant")
    (finding,) = check_backbone(card, tmp_path).findings
    assert (finding.name, finding.ok) == ("opens", False)
    assert "SHA-256" in finding.found
    assert "get the file again" in finding.mend


def test_a_wrong_rate_scale_or_level_changes_the_golden_numbers(tmp_path):
    card = tiny_backbone(tmp_path, least_s=0.05)
    golden = load_backbone(card, tmp_path).embed(sweep(card)[None])[0].tolist()
    right = card.model_copy(update={"golden": golden})
    assert wrong(check_backbone(right, tmp_path)) == []
    file = right.files[0]
    for changed in (
        {"sample_rate_hz": 7350},
        {"normalise": "rms"},
        {"files": (file.model_copy(update={"scale": 0.5}),)},
    ):
        assert wrong(check_backbone(right.model_copy(update=changed), tmp_path)) == ["golden"]


def test_a_wrong_rate_of_a_fixed_window_does_not_open(tmp_path):
    (finding,) = check_backbone(tiny_backbone(tmp_path, sample_rate_hz=9000), tmp_path).findings
    assert "the card says [-1, 900]" in finding.found
    assert "correct sample_rate_hz" in finding.mend


def test_a_network_that_keeps_what_it_heard(tmp_path, monkeypatch):
    plain, loudest = Backbone.embed, []

    def keeps(self, windows):
        loudest.append(float(np.abs(windows).max()))
        return plain(self, windows) + max(loudest)

    monkeypatch.setattr(Backbone, "embed", keeps)
    checked = check_backbone(tiny_backbone(tmp_path), tmp_path)
    assert wrong(checked) == ["padding", "threads"]


def test_a_network_that_two_threads_change(tmp_path, monkeypatch):
    opened = load_backbone

    def open_threads(card, folder, *, trust, threads=1):
        scaled = card.files[0].model_copy(update={"scale": float(threads)})
        return opened(card.model_copy(update={"files": (scaled,)}), folder, trust=trust)

    monkeypatch.setattr(check, "load_backbone", open_threads)
    assert wrong(check_backbone(tiny_backbone(tmp_path), tmp_path)) == ["threads"]


def test_whatever_a_network_throws_is_a_finding(tmp_path, monkeypatch):
    monkeypatch.setattr(Backbone, "embed", lambda *_: int("many"))
    (finding,) = check_backbone(tiny_backbone(tmp_path), tmp_path).findings
    assert finding.found == "ValueError: invalid literal for int() with base 10: 'many'"


def test_sounds_are_the_same_each_time_and_differ_by_60_db(tmp_path):
    card = tiny_backbone(tmp_path)
    sound = make_sounds(card)
    assert np.array_equal(sound, make_sounds(card))
    level_db = 20 * np.log10(sound[1].std() / sound[0].std())
    assert level_db == pytest.approx(60, abs=1)
    assert np.abs(sound).max() <= 1.0


@pytest.mark.parametrize(
    ("name", "macs"), [("birdnet-v2.4", 397_075_584), ("speech-embedding", 62_581_632)]
)
def test_real_weights(tmp_path, name, macs):
    if find_weights(name) is None:
        pytest.skip(f"weights of {name} are not here: make setup-backbones installs them")
    card = write_preset(name, tmp_path / "card.json")
    checked = check_backbone(card, tmp_path)
    assert wrong(checked) == []
    assert checked.macs == macs
    assert len(card.golden) == 8


def test_a_batch_of_decibels_is_found_on_real_weights(tmp_path):
    if find_weights("speech-embedding") is None:
        pytest.skip("weights of speech-embedding are not here: make setup-backbones installs them")
    card = write_preset("speech-embedding", tmp_path / "card.json")
    mel = card.files[0].model_copy(update={"one_by_one": False})
    together = card.model_copy(update={"files": (mel, card.files[1])})
    assert wrong(check_backbone(together, tmp_path)) == ["batch"]
