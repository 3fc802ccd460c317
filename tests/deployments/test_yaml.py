"""Each file for ``serve deploy`` is what Ray's own schema takes, and its settings are ours."""

from pathlib import Path

import pytest
import yaml

from tests.fixtures.mixtures import cnn_specs
from xmoe.base.config import ModelConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.base.errors import ConfigError
from xmoe.run.folder import RunFolder
from xmoe.serve.settings import HttpSettings
from xmoe.serve.start.build import ROUTER, build, check_settings

ROOT = Path(__file__).parents[2] / "deployments"
FILES = sorted(ROOT.glob("*.yaml"))
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with nothing but its configuration, which is all that building asks for."""
    config = RunConfig(
        classes=("a", "b"),
        spectro=SpectroConfig(),
        model=ModelConfig(
            experts=cnn_specs("broadband", "low", "mid"), masked_experts=("mid",), k_max=2
        ),
        train=TrainConfig(),
    )
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.write_record("run_config.json", config)
    return folder.path


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def names_of(application):
    """Return the names of all deployments of an application."""
    router = application._bound_deployment
    inner = [value for value in router.init_args if isinstance(value, dict)]
    handles = inner[1] if len(inner) > 1 else {}
    return [router.name, *(app._bound_deployment.name for app in handles.values())]


def test_the_four_files_are_there():
    assert [path.stem for path in FILES] == ["baseline", "cpu", "gpu", "local"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_is_what_ray_takes(path):
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(read(path))
    assert [app.import_path for app in schema.applications] == ["xmoe.serve.start.build:build"]
    assert schema.http_options.host == "127.0.0.1"
    assert schema.http_options.request_timeout_s > HttpSettings().max_stream_s


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_builds_a_deployment_per_expert(path, run):
    args = read(path)["applications"][0]["args"] | {"run": str(run)}
    expected = [ROUTER]
    if args["topology"] == "distributed":
        expected += ["expert-broadband", "expert-low"]
    assert names_of(build(args)) == expected


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"colour": "red"}, "colour"),
        ({"router": {"speed": 9}}, "router.speed"),
        ({"expert": {"min_replicas": 0}}, "expert.min_replicas"),
        ({"topology": "ring"}, "topology"),
    ],
)
def test_unknown_option_is_refused(run, change, where):
    with pytest.raises(ConfigError) as raised:
        check_settings({"run": str(run)} | change)
    assert raised.value.where == where


def test_expert_that_the_run_does_not_have_is_refused(run):
    with pytest.raises(ConfigError, match="no experts harmonic"):
        build({"run": str(run), "experts": {"harmonic": {"max_replicas": 2}}})


def test_scaling_reaches_ray(run):
    args = {"run": str(run), "experts": {"low": {"max_replicas": 3, "upscale_delay_s": 1.0}}}
    router = build(args)._bound_deployment
    low = router.init_args[1]["low"]._bound_deployment
    assert low._deployment_config.autoscaling_config.max_replicas == 3
    assert low._deployment_config.autoscaling_config.upscale_delay_s == 1.0
    other = router.init_args[1]["broadband"]._bound_deployment
    assert other._deployment_config.num_replicas == 1
    assert other._deployment_config.max_queued_requests == 32


def test_what_a_replica_must_find_free_reaches_ray(run):
    asked = {"memory_mb": 700.0, "resources": {"experts": 1.0}}
    router = build({"run": str(run), "expert": asked})._bound_deployment
    low = router.init_args[1]["low"]._bound_deployment
    assert low.ray_actor_options["memory"] == 700_000_000
    assert low.ray_actor_options["resources"] == {"experts": 1.0}
    assert "memory" not in router.ray_actor_options
