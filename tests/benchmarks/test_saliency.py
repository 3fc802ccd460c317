"""The saliency benchmark runs from end to end on a tiny set and prints what it promises."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "saliency.py"


SIZES = ("--clips", "40", "--judged", "2", "--repeats", "2")


@pytest.fixture(scope="module")
def benchmark():
    """The benchmark; it measures once, however often it prints."""
    spec = importlib.util.spec_from_file_location("benchmark_saliency", FILE)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FILE.parent))
        patch.setitem(sys.modules, "benchmark_saliency", module)
        spec.loader.exec_module(module)
        patch.setattr("xmoe.training.loop.MIN_STEPS", 2)
        kept, measure = [], module.measure

        def once(options, folder):
            if not kept:
                kept.append(measure(options, folder))
            return kept[0]

        patch.setattr(module, "measure", once)
        yield module


def run(benchmark, monkeypatch, *more):
    monkeypatch.setattr(sys, "argv", ["saliency.py", *SIZES, *more])
    benchmark.main()


def test_numbers_for_every_method_and_a_random_map(benchmark, monkeypatch, capsys):
    run(benchmark, monkeypatch, "--json")
    found = json.loads(capsys.readouterr().out)
    methods = {"gradcam", "saliency", "gradient_x_input", "occlusion", "contrast", "random"}
    assert set(found["methods"]) == methods
    random = found["methods"]["random"]["all"]
    assert random["energy"] == pytest.approx(random["area"], abs=0.01)
    for cost in found["ms"].values():
        assert 0.0 < cost["saliency"] < cost["occlusion"]


def test_the_table_says_whether_the_aims_are_met(benchmark, monkeypatch, capsys):
    run(benchmark, monkeypatch)
    printed = capsys.readouterr().out
    for name in ("pointing", "energy", "cost", "deletion"):
        assert any(line.startswith(f"{name} ") and "met" in line for line in printed.splitlines())
