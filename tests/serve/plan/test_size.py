"""What replicas ask for comes from what their processes hold."""

import pytest

from tests.fixtures.runs import tiny_config, write_run
from xmoe.base.errors import ConfigError
from xmoe.serve.plan.size import FOR_ACTORS, HEADROOM, Node, ProcessSize, fit_node, measure_sizes
from xmoe.serve.settings import ServeSettings


def process(name, pss_mb):
    return ProcessSize(name=name, rss_mb=2 * pss_mb, pss_mb=pss_mb, own_mb=0.8 * pss_mb)


def test_as_many_fit_as_ask_for_no_more_than_a_node_has():
    found = [process("router", 400.0), process("low", 320.0), process("high", 320.0)]
    sizes = fit_node(found, Node(cpus=4.0, memory_mb=8000.0))
    assert sizes.sets_per_node == 4  # 5200 MB for actors, 1300 MB for all three
    assert sizes.replicas_per_node == 13
    assert sizes.num_cpus == 0.31
    assert sizes.settings == {
        "router": {"memory_mb": 400.0 * HEADROOM},
        "expert": {"memory_mb": 320.0 * HEADROOM, "num_cpus": 0.31},
    }
    assert sizes.sets_per_node * 1300.0 <= 8000.0 * FOR_ACTORS


def test_expert_that_needs_much_more_has_an_entry_of_its_own():
    found = [process("router", 400.0), process("low", 320.0), process("mid", 330.0)]
    sizes = fit_node([*found, process("birdnet", 900.0)], Node(cpus=4.0, memory_mb=8000.0))
    assert sizes.settings["expert"]["memory_mb"] == round(330.0 * HEADROOM)
    assert sizes.settings["experts"] == {
        "birdnet": {"memory_mb": 900.0 * HEADROOM, "num_cpus": 1.0}
    }
    ServeSettings.model_validate({"run": "r", **sizes.settings})


def test_node_that_is_too_small_is_told_of():
    with pytest.raises(ConfigError, match="the largest process needs 500"):
        fit_node([process("router", 400.0)], Node(cpus=1.0, memory_mb=600.0))


@pytest.mark.slow
def test_processes_of_a_run_are_weighed_while_all_live(tmp_path):
    write_run(tmp_path, tiny_config())
    sizes = measure_sizes(str(tmp_path), Node(cpus=4.0, memory_mb=64_000.0))
    assert sizes.processes[0].name == "router"
    for one in sizes.processes:
        assert 50.0 < one.own_mb < one.pss_mb < one.rss_mb < 3000.0


@pytest.mark.slow
def test_process_that_ends_is_named(tmp_path, monkeypatch):
    write_run(tmp_path, tiny_config())
    monkeypatch.setattr("xmoe.serve.plan.size.CHILD", "raise SystemExit(3)")
    with pytest.raises(ConfigError, match="the process of router ended"):
        measure_sizes(str(tmp_path), Node(cpus=4.0, memory_mb=8000.0))
