"""Image, compose file and the file for ``ray up``: right by their tools, closed by default."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
IMAGE = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((CLUSTER / "compose.yaml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements-image.lock").read_text(encoding="utf-8")


def test_linter_finds_nothing_in_the_dockerfile():
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, CLUSTER / "Dockerfile"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_image_is_built_from_hash_locks_for_one_user_without_rights():
    installs = re.findall(r"pip install --require-hashes --no-deps -r /src/(\S+)", IMAGE)
    assert installs == ["requirements-image.lock", "rest.lock", "requirements-sbom.lock"]
    assert "USER 1000:1000" in IMAGE
    assert IMAGE.index("USER 1000:1000") > IMAGE.rindex("COPY --from=")


def test_images_of_others_are_pinned_by_digest():
    chart = yaml.safe_load((CLUSTER / "chart" / "values.yaml").read_text(encoding="utf-8"))
    python = re.findall(r"^ARG PYTHON_IMAGE=(.*)$", IMAGE, re.M)
    services = [service["image"] for service in COMPOSE["services"].values()]
    others = [image for image in services if not image.startswith("xmoe:")]
    pinned = [*python, *others, chart["redis"]["image"]]
    assert len(pinned) == 3
    for image in pinned:
        assert re.fullmatch(r"[a-z/]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}", image)
    assert "# syntax=" not in IMAGE  # an image too, and it runs the build
    bases = set(re.findall(r"^FROM (\S+)", IMAGE, re.M))
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", IMAGE, re.M))
    assert bases - stages == {"${PYTHON_IMAGE}", "packages-${ACCELERATOR}", "${ACCELERATOR}"}
    assert {f"{stage}{name}" for stage in ("packages-", "") for name in ("cpu", "gpu")} <= stages


def split_lock(option):
    """Run the stream editor's line for the CPU image, the one with this option, over the lock."""
    (script,) = re.findall(rf"sed {option} '([^']+)'", IMAGE)
    done = subprocess.run(["sed", option, script], input=LOCK, capture_output=True, text=True)
    return done.stdout


def test_cpu_image_takes_torch_from_its_index_and_nothing_of_cuda():
    assert split_lock("-nE").splitlines() == [
        line.removesuffix(" \\") for line in LOCK.splitlines() if line.startswith("torch")
    ]
    rest, whole = split_lock("-E"), LOCK.splitlines()
    left = {line.split("==")[0] for line in rest.splitlines() if "==" in line}
    gone = {line.split("==")[0] for line in whole if "==" in line} - left
    assert {"torch", "torchaudio", "triton", "nvidia-cublas", "cuda-bindings"} <= gone
    assert all(re.match("torch|triton|nvidia-|cuda-", name) for name in gone)
    assert {"numpy", "ray", "tqdm"} <= left
    for line, following in zip(rest.splitlines(), [*rest.splitlines()[1:], ""], strict=True):
        assert line.endswith("\\") == following.startswith("    --hash=sha256:")
    assert 'pip install --no-deps --only-binary :all: --index-url "$TORCH_INDEX"' in IMAGE
    # Wheels of CUDA cannot be imported there: the build fails, not the first pod.
    assert "/opt/xmoe/bin/python -c 'import torch, torchaudio'" in stage("packages-cpu")


def stage(name):
    return re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", IMAGE, re.M | re.S)[1]


def test_other_code_leaves_the_layer_of_packages_alone():
    assert "COPY" not in stage("packages")
    copied = re.findall(r"^COPY --from=(\S+) (\S+) /opt/xmoe$", stage("base"), re.M)
    assert copied == [("packages", "/opt/xmoe"), ("code", "/code/opt/xmoe")]


def test_bill_of_materials_is_written_by_a_tool_that_does_not_stay():
    lock = (ROOT / "requirements-sbom.lock").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (tool,) = re.findall("^SBOM := (.*)$", makefile, re.M)
    assert tool in lock
    assert lock.count("--hash=sha256:") > lock.count("==")
    assert IMAGE.index("cyclonedx-py environment") < IMAGE.index("AS base")
    assert "COPY --from=bill /src/sbom.cdx.json /usr/share/sbom/" in IMAGE


def test_everything_that_is_copied_is_sent_to_the_builder():
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert sent[0] == "*"
    assert sent[-2:] == ["**/__pycache__", "**/.*"]  # last, so that nothing brings .env back
    for line in IMAGE.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert f"!{source}" in sent
                assert (ROOT / source).exists()


def test_lock_of_the_image_holds_hashes_and_no_tools_for_developers():
    packages = {line.split("==")[0] for line in LOCK.splitlines() if "==" in line}
    assert {"torch", "torchaudio", "ray", "hatchling"} <= packages
    assert not packages & {"pytest", "mypy", "ruff", "moto", "quantus"}
    assert LOCK.count("--hash=sha256:") > len(packages)
    assert "://" not in LOCK


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


@pytest.mark.parametrize("name", ["head", "worker"])
def test_object_store_fits_shared_memory(name):
    """Larger than /dev/shm, Ray puts it into /tmp, which is 4 GB here."""
    service = COMPOSE["services"][name]
    (store,) = re.findall(r"--object-store-memory=(\d+)", service["command"])
    assert service["shm_size"] == "2gb"
    assert int(store) < 2 * 2**30


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
