"""Manifests for Kubernetes: right by schema, locked down, the same service as deployments/."""

import importlib.util
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from xmoe.serve.build import check_settings

kubernetes_validate = pytest.importorskip("kubernetes_validate")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "kuberay"
SPEC = importlib.util.spec_from_file_location(
    "kuberay_records", Path(__file__).with_name("kuberay_records.py")
)
records = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(records)

DOCUMENTS = [
    (path, document)
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
OF_RAY = [pair for pair in DOCUMENTS if pair[1]["apiVersion"].startswith("ray.io")]
OF_KUBERNETES = [pair for pair in DOCUMENTS if not pair[1]["apiVersion"].startswith("ray.io")]


def name_of(pair):
    return f"{pair[0].stem}-{pair[1]['kind']}"


def groups_of(document):
    cluster = records.read_cluster(document)
    return [cluster.headGroupSpec, *cluster.workerGroupSpecs]


def check(resource):
    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def test_every_kind_is_there():
    assert sorted(document["kind"] for _, document in OF_RAY) == [
        "RayCluster",
        "RayJob",
        "RayJob",
        "RayService",
    ]
    assert {"NetworkPolicy", "StatefulSet", "PersistentVolumeClaim", "Service"} == {
        document["kind"] for _, document in OF_KUBERNETES
    }


@pytest.mark.parametrize("pair", OF_KUBERNETES, ids=name_of)
def test_kubernetes_takes_the_resource(pair):
    check(pair[1])


@pytest.mark.parametrize("pair", OF_RAY, ids=name_of)
def test_fields_are_those_of_kuberay_and_pods_are_those_of_kubernetes(pair):
    for group in groups_of(pair[1]):
        check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group.template})


def test_a_field_that_kuberay_does_not_have_is_found():
    document = yaml.safe_load((FOLDER / "raycluster.yaml").read_text(encoding="utf-8"))
    document["spec"]["autoScalerOptions"] = {}
    with pytest.raises(ValidationError, match="autoScalerOptions"):
        records.read_cluster(document)


@pytest.mark.parametrize("pair", OF_RAY, ids=name_of)
def test_token_is_asked_for_and_ray_is_the_pinned_one(pair):
    cluster = records.read_cluster(pair[1])
    assert cluster.authOptions.mode == "token"
    pins = (ROOT / "requirements-image.lock").read_text(encoding="utf-8")
    assert f"ray=={cluster.rayVersion}" in pins


@pytest.mark.parametrize("pair", OF_RAY, ids=name_of)
def test_pods_run_without_rights_that_they_do_not_need(pair):
    for group in groups_of(pair[1]):
        spec = group.template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]) == {"requests", "limits"}
            assert ":latest" not in container["image"]


@pytest.mark.parametrize("pair", OF_RAY, ids=name_of)
def test_workers_hold_no_account_of_the_cluster(pair):
    for group in records.read_cluster(pair[1]).workerGroupSpecs:
        assert group.template["spec"]["automountServiceAccountToken"] is False
        assert group.minReplicas <= group.replicas <= group.maxReplicas


def test_standing_cluster_has_groups_that_grow_and_survives_its_head():
    document = yaml.safe_load((FOLDER / "raycluster.yaml").read_text(encoding="utf-8"))
    cluster = records.read_cluster(document)
    assert [group.groupName for group in cluster.workerGroupSpecs] == ["cpu", "experts", "gpu"]
    assert all(group.maxReplicas > group.minReplicas for group in cluster.workerGroupSpecs)
    assert cluster.gcsFaultToleranceOptions.redisAddress == "redis://xmoe-redis:6379"
    gpu = cluster.workerGroupSpecs[2].template["spec"]["containers"][0]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_service_is_the_one_of_deployments_and_asks_for_a_token():
    document = yaml.safe_load((FOLDER / "rayservice.yaml").read_text(encoding="utf-8"))
    served = yaml.safe_load(document["spec"]["serveConfigV2"])
    plain = yaml.safe_load((ROOT / "deployments" / "cpu.yaml").read_text(encoding="utf-8"))
    assert served["applications"] == plain["applications"]
    assert served["http_options"].pop("host") == "0.0.0.0"
    plain["http_options"].pop("host")
    assert served["http_options"] == plain["http_options"]
    settings = check_settings(served["applications"][0]["args"])
    for group in groups_of(document):
        for container in group.template["spec"]["containers"]:
            names = [variable["name"] for variable in container["env"]]
            assert settings.http.token_variable in names


def test_only_named_sources_come_in():
    policies = {
        document["metadata"]["name"]: document["spec"]
        for _, document in OF_KUBERNETES
        if document["kind"] == "NetworkPolicy"
    }
    assert set(policies) == {"xmoe-ray", "xmoe-redis"}
    for spec in policies.values():
        assert spec["podSelector"], "a policy for every pod would open what the others close"
        assert all("from" in rule for rule in spec["ingress"])
    dashboards = [
        rule
        for rule in policies["xmoe-ray"]["ingress"]
        if any(port["port"] == 8265 for port in rule.get("ports", []))
    ]
    assert [rule["from"][0]["namespaceSelector"]["matchLabels"] for rule in dashboards] == [
        {"kubernetes.io/metadata.name": "kuberay-operator"}
    ]


@pytest.mark.parametrize("pair", OF_RAY, ids=name_of)
def test_claims_and_secrets_that_are_named_exist_or_are_told_of(pair):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    claims = {d["metadata"]["name"] for _, d in DOCUMENTS if d["kind"] == "PersistentVolumeClaim"}
    for group in groups_of(pair[1]):
        spec = group.template["spec"]
        used = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in spec["volumes"]
            if "persistentVolumeClaim" in volume
        }
        assert used <= claims
        for container in spec["containers"]:
            for variable in container.get("env", []):
                assert variable["valueFrom"]["secretKeyRef"]["name"] in text
    assert records.read_cluster(pair[1]).authOptions.secretName in text


@pytest.mark.parametrize("name", ["rayjob-profile", "rayjob-train"])
def test_job_is_a_command_that_the_command_line_takes(name):
    from click.testing import CliRunner

    from xmoe.cli import cli

    document = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    words = document["spec"]["entrypoint"].split()
    assert words[0] == "xmoe"
    command = cli.commands[words[1]]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    assert CliRunner().invoke(cli, [words[1], "--help"]).exit_code == 0
