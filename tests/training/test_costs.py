"""What was measured once on a machine is read, and on another machine measured anew."""

import json

import numpy as np
import pytest

from tests.base.test_backbone import card as make_card
from xmoe.base.config import BackboneSpec, KernelsSpec, SpectroConfig
from xmoe.experts.backbone import BackboneEar
from xmoe.training import costs
from xmoe.training.costs import CostBook, name_machine


def refuse():
    raise AssertionError("it was measured again")


def test_what_is_known_is_read_by_the_next_book(tmp_path):
    path = tmp_path / "features" / "costs.json"
    first = CostBook(path)
    assert first.look_up(["low", 8000], lambda: 2.5) == 2.5
    assert first.look_up(["low", 16000], lambda: 5.0) == 5.0
    again = CostBook(path)
    assert again.look_up(["low", 8000], refuse) == 2.5
    assert again.look_up(["low", 16000], refuse) == 5.0
    assert sorted(json.loads(path.read_text()).values()) == [2.5, 5.0]


def test_another_machine_measures_its_own(tmp_path, monkeypatch):
    book = CostBook(tmp_path / "costs.json")
    book.look_up("low", lambda: 2.5)
    monkeypatch.setattr(costs, "name_machine", lambda: "another")
    assert CostBook(book.path).look_up("low", lambda: 1.0) == 1.0
    monkeypatch.undo()
    assert CostBook(book.path).look_up("low", refuse) == 2.5


@pytest.mark.parametrize(
    ("lines", "named"),
    [("processor: 0\nmodel name\t: Fast 5\nmodel name\t: Fast 5\n", "Fast 5"), ("cpu: 1\n", "x9")],
)
def test_a_machine_is_named_by_its_processor(tmp_path, monkeypatch, lines, named):
    file = tmp_path / "cpuinfo"
    file.write_text(lines)
    monkeypatch.setattr(costs, "_CPU_FILE", file)
    monkeypatch.setattr(costs.platform, "processor", lambda: "x9")
    name_machine.cache_clear()
    assert name_machine().endswith(f" {named}")
    monkeypatch.undo()
    name_machine.cache_clear()


def test_a_longer_clip_costs_more():
    spectro = SpectroConfig(sample_rate_hz=8000, fmax_hz=4000.0, n_fft=256, win_length=200)
    spec = KernelsSpec(name="one", family="broadband", spectro=spectro, kernels=4)
    short, long = (
        costs.measure_ms(spec, sample_rate_hz=8000, duration_s=seconds) for seconds in (0.5, 8.0)
    )
    assert 0.0 < short < long


def test_of_a_network_only_the_windows_that_it_hears_are_counted(monkeypatch):
    asked = []

    def embed(self, windows):
        asked.append(len(windows))
        return np.zeros((len(windows), 1024), np.float32)

    monkeypatch.setattr(BackboneEar, "embed", embed)
    for windows in (None, 1, 2):
        spec = BackboneSpec(name="net", card=make_card(), windows=windows)
        assert costs.measure_ms(spec, sample_rate_hz=48_000, duration_s=9.0) > 0.0
    assert asked[:: len(asked) // 3] == [5, 1, 3]
