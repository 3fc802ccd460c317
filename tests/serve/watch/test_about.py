"""What a run folder tells of itself, and a folder that tells nothing."""

import pytest

from tests.fixtures.runs import write_run
from xmoe.audio.dataset import Dataset, Example
from xmoe.base.config import SpectroConfig
from xmoe.base.files import write_json
from xmoe.policy.records import Policy
from xmoe.predict.samples import write_samples
from xmoe.profile.assemble import merge_stats
from xmoe.profile.profile import write_clip_table
from xmoe.run.folder import RunFolder
from xmoe.serve.router.router import load_router
from xmoe.serve.settings import ServeSettings
from xmoe.serve.watch.about import read_about

WHY = "the effective band ends at 3.9 kHz, under 12 kHz"


@pytest.fixture(scope="module")
def told_run(tmp_path_factory, clip_rows):
    """A run folder with profile, clips and policy."""
    path = write_run(tmp_path_factory.mktemp("told") / "tiny")
    rows = clip_rows(40)
    write_clip_table(path / "clips.parquet", rows)
    write_json(path / "profile.json", merge_stats(rows))
    policy = Policy(
        spectro=SpectroConfig(),
        experts=("low", "high_band"),
        masked_experts=("high_band",),
        mask_reasons={"high_band": WHY},
        k_max=1,
        window_frames=4,
        choices=(),
    )
    (path / "policy.json").write_text(policy.model_dump_json())
    return path


def about(run, **settings):
    checked = ServeSettings(run=str(run), **settings)
    return read_about(checked, load_router(checked).config)


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_folder_that_tells_everything(told_run, prefix):
    found = about(f"{prefix}{told_run}")
    assert found.name == "tiny"
    assert len(found.weights_sha256) == 64
    assert found.mask_reasons == {"high_band": WHY}
    assert found.training.clips == 40
    assert found.training.clips_by_class == {"click": 20, "tone": 20}
    assert found.reference.recordings == 40
    assert found.no_reference == ""


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_folder_that_tells_nothing(tiny_run, prefix):
    found = about(f"{prefix}{tiny_run}")
    assert (found.reference, found.training, found.mask_reasons) == (None, None, {})
    assert "clips.parquet" in found.no_reference


def test_torn_table_is_no_reference(told_run, tmp_path):
    path = write_run(tmp_path / "torn")
    (path / "clips.parquet").write_bytes((told_run / "clips.parquet").read_bytes()[:500])
    assert about(path).reference is None


def test_watching_can_be_switched_off(told_run):
    found = about(told_run, drift={"enabled": False})
    assert found.reference is None
    assert "switched off" in found.no_reference


def test_samples_are_told_and_sent(ask, serve_run, tmp_path, sound, wav):
    run = write_run(tmp_path / "run")
    (tmp_path / "a.wav").write_bytes(wav(sound()))
    data = Dataset(tmp_path, (Example("a.wav", "test", ("tone",)),), ("tone",), "single_label")
    write_samples(RunFolder(run), data)
    assert [sample.labels for sample in about(run).samples] == [("tone",)]
    assert [sample.labels for sample in about(f"file://{run}").samples] == [("tone",)]
    service = serve_run(run=run)
    told = ask("GET", "/v1/model", service=service).json()["samples"]
    assert told == [{"labels": ["tone"], "seconds": 0.4}]
    reply = ask("GET", "/v1/samples/0", service=service)
    assert (reply.status, reply.headers["content-type"]) == (200, "audio/wav")
    assert ask("POST", "/v1/classify", service=service, body=reply.body).status == 200
    for place in ("1", "-1"):
        assert ask("GET", f"/v1/samples/{place}", service=service).json()["code"] == "not_found"
    (run / "samples.parquet").write_bytes(b"torn")
    assert about(run).samples == ()


def test_model_route_tells_it(ask, serve_run, told_run):
    model = ask("GET", "/v1/model", service=serve_run(run=told_run)).json()
    masked = {one["name"]: one["reason"] for one in model["experts"] if one["masked"]}
    assert masked == {"high_band": WHY}
    assert model["run"] == "tiny"
    assert model["training"]["sample_rates_hz"] == {"8000": 40}
    assert model["limits"]["max_body_bytes"] == 64 << 20
