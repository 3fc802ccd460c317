"""Replicas and nodes for a rate: enough, no waste, and told where none are enough."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.closed_runs import COSTS_MS, FIRST_MOST, NAMES
from tests.fixtures.runs import tiny_config, write_run
from tests.serve.plan.conftest import TIMES
from xmoe.base.errors import ConfigError
from xmoe.run.folder import RunFile, RunFolder
from xmoe.serve.plan.capacity import (
    MEASURED,
    UTILISATION,
    Overheads,
    Target,
    find_capacity,
    first_guess,
    overheads_of,
    read_asked,
    read_times,
    to_settings,
)
from xmoe.serve.plan.simulate import Asked
from xmoe.serve.settings import ServeSettings

SLOW_B = TIMES.model_copy(update={"expert_ms": {"a": 5.0, "b": 20.0}})
ROWS = [Asked(), Asked(first=("a",)), Asked(first=("a",)), Asked(first=("a",), further=("b",))]


def test_first_guess_works_its_share_of_the_time():
    fleet = first_guess(SLOW_B, {"a": 0.75, "b": 0.25}, 200.0)
    assert fleet.experts == {"a": 2, "b": 2}  # 0.75 * 6.5 ms and 0.25 * 21.5 ms of 200 a second
    assert fleet.routers == 3
    assert 200.0 * 7.5 / 1000.0 / fleet.routers <= UTILISATION


def test_rate_is_kept_within_the_latency():
    found = find_capacity(SLOW_B, ROWS, Target(per_second=400.0, p99_ms=60.0, price=1.0))
    assert found.reached
    assert found.outcome.p99_ms <= 60.0
    assert found.outcome.per_second == pytest.approx(400.0, rel=0.05)
    cores = 400.0 * found.outcome.cpu_ms / 1000.0
    assert cores / 4.0 < found.nodes < cores / 4.0 / 0.8 + 1.1
    assert found.cost_per_million == pytest.approx(found.nodes / (3600 * 400.0) * 1e6)
    assert found.asked_per_second == {"a": 300.0, "b": 100.0}


def test_tighter_latency_takes_more_replicas():
    loose = find_capacity(SLOW_B, ROWS, Target(per_second=400.0, p99_ms=200.0))
    tight = find_capacity(SLOW_B, ROWS, Target(per_second=400.0, p99_ms=60.0))
    assert tight.reached
    assert sum(tight.replicas().values()) > sum(loose.replicas().values())


def test_latency_below_the_work_itself_is_not_reached():
    found = find_capacity(SLOW_B, ROWS, Target(per_second=50.0, p99_ms=20.0))
    assert not found.reached
    assert found.outcome.p99_ms > 20.0


def test_many_cells_are_one_cell_many_times():
    one = find_capacity(SLOW_B, ROWS, Target(per_second=2000.0, p99_ms=200.0))
    ten = find_capacity(SLOW_B, ROWS, Target(per_second=20_000.0, p99_ms=200.0))
    assert (one.cells, ten.cells) == (1, 10)
    assert ten.replicas() == {name: 10 * size for name, size in one.replicas().items()}


def test_settings_are_those_of_the_service():
    found = find_capacity(SLOW_B, ROWS, Target(per_second=400.0, p99_ms=60.0))
    settings = ServeSettings.model_validate({"run": "r", **to_settings(found)})
    assert settings.router.replicas == found.replicas()["router"]
    assert settings.deployment_of("b").min_replicas == found.replicas()["b"]
    assert 0.05 <= settings.deployment_of("b").num_cpus <= 1.0


def test_overheads_lie_on_the_line_through_those_measured():
    small, large = MEASURED
    assert overheads_of(small.mb / 2) == small
    assert overheads_of(large.mb) == large
    between = overheads_of((small.mb + large.mb) / 2)
    assert between.proxy_ms == pytest.approx((small.proxy_ms + large.proxy_ms) / 2)
    beyond = overheads_of(2 * large.mb)
    assert beyond.spread == large.spread
    assert beyond.request_ms > large.request_ms
    falling = Overheads(proxy_ms=-1.0, row_ms=-7.0).add_to(SLOW_B)
    assert (falling.proxy_ms, falling.expert_ms) == (0.0, {"a": 0.0, "b": 13.0})


@pytest.fixture
def folder(tmp_path):
    write_run(tmp_path, tiny_config())
    return RunFolder(tmp_path)


def test_run_without_costs_is_refused(folder):
    with pytest.raises(ConfigError, match="what its experts cost"):
        read_times(folder)


def test_whom_test_clips_asked_is_read_from_the_run(folder):
    uses = [[], [{"name": "low", "weight": 0.6}, {"name": "mid", "weight": 0.4}]]
    with pytest.raises(ConfigError, match="no answers to test clips"):
        read_asked(folder)
    pq.write_table(pa.table({"experts": uses}), folder.file(RunFile.TRACES))
    first, second = read_asked(folder)
    assert first == Asked()
    assert (*second.first, *second.further) == ("low", "mid")


def test_closed_run_says_what_it_costs_and_how_many_are_asked_first(closed_run, tmp_path):
    times = read_times(RunFolder(closed_run), Overheads(row_ms=0.25, delay_ms=3.0))
    assert (times.plan_ms, times.delay_ms, times.proxy_ms) == (0.5, 3.0, 0.0)
    costs = [ms + 0.25 for ms in COSTS_MS]
    assert times.expert_ms == pytest.approx(dict(zip(NAMES, costs, strict=True)))
    assert times.max_rows == 32
    assert read_times(RunFolder(closed_run)).proxy_ms == MEASURED[0].proxy_ms  # as short as those
    copied = RunFolder(shutil.copytree(closed_run, tmp_path / "run"))
    uses = [[{"name": name, "weight": 1 / 3} for name in NAMES]]
    pq.write_table(pa.table({"experts": uses}), copied.file(RunFile.TRACES))
    (asked,) = read_asked(copied)
    assert (asked.first, asked.further) == (NAMES[:FIRST_MOST], NAMES[FIRST_MOST:])
