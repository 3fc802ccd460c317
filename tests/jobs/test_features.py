"""Features on Ray: the same files and rows as in one process, whoever measured which block."""

import pytest

from tests.fixtures.closed import SPECTRO
from xmoe.jobs import features as module
from xmoe.jobs.features import run_features, run_with_ray
from xmoe.training import kernel_features
from xmoe.training.ears import StemSpec
from xmoe.training.kernel_features import Source, measure_features


@pytest.fixture
def measure(closed_job, monkeypatch):
    """Return the function that measures the scenes in small blocks, by one runner."""
    monkeypatch.setattr(kernel_features, "BLOCK_CLIPS", 9)

    def make(cache, run):
        known = closed_job.dataset.examples
        source = Source(closed_job.dataset, 0.3, cache, run)
        return measure_features(source, known, [StemSpec(spectro=SPECTRO)])

    return make


@pytest.mark.usefixtures("local_ray")
def test_any_number_of_workers_gives_the_bytes_of_one(measure, tmp_path):
    here = measure(tmp_path / "here", None)
    there = measure(tmp_path / "there", run_with_ray)
    assert there.examples == here.examples
    assert (there.counts == here.counts).all()
    spec = StemSpec(spectro=SPECTRO)
    assert there.table(spec).tobytes() == here.table(spec).tobytes()


def test_few_recordings_are_measured_here(measure, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "run_with_ray", lambda *_: pytest.fail("Ray was started"))
    assert len(measure(tmp_path / "c", run_features).counts)
