"""What an exported folder holds, and which runs are refused."""

import json
import sys

import numpy as np
import pytest

from tests.fixtures.closed_runs import closed_config, write_backbone_run, write_closed_run
from tests.fixtures.runs import tiny_config, write_run
from xmoe.base.config import NetworkSpec
from xmoe.base.errors import ConfigError
from xmoe.export.folder import export_run, refuse


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_backbone_run(tmp_path_factory.mktemp("run") / "run")


def test_every_part_is_a_file(run, tmp_path):
    done = export_run(run, tmp_path / "out")
    parts = ["stem", "expert-first", "expert-second"]
    expected = {f"{part}.{end}" for part in parts for end in ("onnx", "npz")}
    expected |= {"expert-third.npz", "model.json", "router.json"}
    reader = {"model", "router", "sound", "frontend", "network", "__init__", "__main__"}
    expected |= {f"xmoe_lite/{name}.py" for name in reader}
    assert {name for name in done.sizes if not name.startswith("pretrained")} == expected
    assert [name for name in done.sizes if name.endswith("tiny.onnx")]
    assert done.terms == ("tiny: MIT  (a test)",)
    record = json.loads((tmp_path / "out" / "model.json").read_text())
    assert (record["classes"], record["exclusive"]) == (["click", "hum", "tone"], True)
    assert [expert["kind"] for expert in record["experts"]] == ["kernels", "kernels", "backbone"]


def test_a_folder_that_is_there_is_not_written_over(run, tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(ConfigError, match="name another --out"):
        export_run(run, tmp_path)


def test_a_run_by_gradient_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="xmoe train --fit closed"):
        export_run(write_run(tmp_path / "run", tiny_config()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def of(spec):
    config = closed_config()
    experts = (*config.model.experts[:2], spec)
    return config.model_copy(update={"model": config.model.model_copy(update={"experts": experts})})


def test_an_expert_by_gradient_is_refused_by_name():
    tiny = tiny_config(("click", "hum", "tone"))
    network = NetworkSpec(name="network", spectro=tiny.spectro, mixture=tiny.model)
    with pytest.raises(ConfigError, match="expert network was trained by gradient"):
        refuse(of(network), "run")


def test_a_network_of_another_format_is_refused_by_name(run):
    from xmoe.run.folder import RunFolder

    third = RunFolder(run).read_config().model.experts[2]
    other = third.model_copy(
        update={"card": third.card.model_copy(update={"format": "torchscript"})}
    )
    with pytest.raises(ConfigError, match=r"format torchscript .*expert remove COPY third"):
        refuse(of(other), "run")


@pytest.mark.parametrize("routing", [{"window_fraction": 0.5}, {"selector": "random"}])
def test_parts_of_segments_are_refused(routing):
    with pytest.raises(ConfigError, match="only a part of each segment"):
        refuse(closed_config(**routing), "run")


def test_the_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'xmoe\[export\]'"):
        export_run(write_closed_run(tmp_path / "run"), tmp_path / "out")


def test_heads_are_those_of_the_run(run, tmp_path):
    from xmoe.run.folder import RunFolder

    export_run(run, tmp_path / "out")
    with np.load(tmp_path / "out" / "expert-third.npz", allow_pickle=False) as head:
        expected = RunFolder(run).load_tensors("expert-third")
        for name in head:
            np.testing.assert_array_equal(head[name], expected[f"head.{name}"].numpy())
