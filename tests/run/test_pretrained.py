"""Files of networks: copied into a run once, relative there, absolute in memory."""

import json

import pytest

from tests.fixtures.backbones import tiny_backbone
from xmoe.base.config import BackboneSpec, ModelConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.experts.backbone import open_backbone
from xmoe.run.folder import RunFile, RunFolder
from xmoe.run.pretrained import keep_pretrained, kept_files, kept_folder

BOTH = ("best", "last")


@pytest.fixture
def config(tmp_path):
    spec = BackboneSpec(name="tiny", card=tiny_backbone(tmp_path), folder=str(tmp_path))
    model = ModelConfig(experts=(spec,), k_max=1)
    spectro = SpectroConfig(sample_rate_hz=8000, fmax_hz=4000.0)
    return RunConfig(classes=("a", "b"), spectro=spectro, model=model, train=TrainConfig())


def test_a_run_holds_its_networks_and_can_be_moved(config, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.save_checkpoint("one", {}, {}, which=BOTH, config=config)
    (tmp_path / "tiny.onnx").unlink()
    folder.path.rename(tmp_path / "moved")
    (spec,) = RunFolder(tmp_path / "moved").read_config().model.experts
    assert spec.folder == str(tmp_path / "moved" / kept_folder(spec))
    assert open_backbone(spec.card, spec.folder).card == spec.card
    settings = json.loads((tmp_path / "moved" / RunFile.CONFIG).read_text())
    (written,) = settings["model"]["experts"]
    assert written["folder"] == kept_folder(spec)
    assert kept_files(spec) == [f"{kept_folder(spec)}/tiny.onnx"]


def test_settings_that_are_written_again_name_the_same_files(config, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.save_checkpoint("one", {}, {}, which=BOTH, config=config)
    first = folder.file(RunFile.CONFIG).read_text()
    folder.save_checkpoint("two", {}, {}, which=BOTH, config=folder.read_config())
    assert folder.file(RunFile.CONFIG).read_text() == first
    assert len(list(folder.file("pretrained").iterdir())) == 1


def test_without_networks_nothing_changes(config, tmp_path):
    from tests.fixtures.mixtures import cnn_specs

    plain = config.model_copy(update={"model": ModelConfig(experts=cnn_specs("low"), k_max=1)})
    assert keep_pretrained(plain, tmp_path) is plain
    assert not (tmp_path / "pretrained").exists()
