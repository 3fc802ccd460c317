"""The chart: rendered by Helm itself, right by schema, locked down, spread."""

import json
import os
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from tests.fixtures import crd_records as records
from tests.fixtures.chart import (
    NAMES,
    ROOT,
    clusters_of,
    groups_of,
    helm,
    needs_helm,
    of_kind,
    render,
    template,
)

kubernetes_validate = pytest.importorskip("kubernetes_validate")
pytestmark = needs_helm


def check(resource):
    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_linter_of_helm_finds_nothing(name):
    code, text = helm("lint", "--strict", ".", "-f", f"values/{name}.yaml")
    assert code == 0, text


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("kind", "NetworkPolicy PersistentVolumeClaim RayJob RayService ServiceAccount"),
        (
            "cpu",
            "ConfigMap Gateway HTTPRoute NetworkPolicy PersistentVolumeClaim PodDisruptionBudget"
            " PodMonitor PrometheusRule RayService ServiceAccount",
        ),
        (
            "gpu",
            "ConfigMap Ingress NetworkPolicy PodDisruptionBudget PodMonitor PrometheusRule"
            " RayCluster RayService ServiceAccount",
        ),
        ("jobs", "NetworkPolicy RayJob ServiceAccount"),
    ],
)
def test_values_make_these_kinds(name, kinds):
    assert {document["kind"] for document in render(name)} == set(kinds.split())


@pytest.mark.parametrize("name", NAMES)
def test_every_resource_is_what_its_owner_takes(name):
    for document in render(name):
        if document["apiVersion"].startswith("ray.io"):
            records.read_cluster(document)
        elif document["kind"] in records.OTHERS:
            version, spec = records.OTHERS[document["kind"]]
            assert document["apiVersion"] == version
            spec.model_validate(document["spec"])
        else:
            check(document)
    for _, _, pod in groups_of(render(name)):
        check({"apiVersion": "v1", "kind": "Pod", **pod, "metadata": {"name": "pod"}})


def test_redis_of_the_release_is_what_kubernetes_takes():
    documents = template("--set", "service.run=/runs/a")
    for kind in ("Service", "StatefulSet"):
        (document,) = of_kind(documents, kind)
        assert document["metadata"]["name"] == "xmoe-redis"
        check(document)
    ((_, cluster),) = clusters_of(documents)
    assert cluster.gcsFaultToleranceOptions.redisAddress == "redis://xmoe-redis:6379"


@pytest.mark.parametrize("name", NAMES)
def test_custom_resource_definitions_take_what_is_rendered(name):
    """With XMOE_CRDS=FOLDER, against the definitions themselves (ray.io_*.yaml of KubeRay)."""
    folder = os.environ.get("XMOE_CRDS")
    if not folder:
        pytest.skip("XMOE_CRDS names no folder of definitions")
    schemas = read_definitions(folder)
    for document, _ in clusters_of(render(name)):
        jsonschema.validate(document, schemas[document["kind"]])


@cache
def read_definitions(folder):
    """Return {kind: schema} of the custom resource definitions in a folder."""
    schemas = {}
    for path in Path(folder).glob("*.yaml"):
        spec = yaml.load(path.read_bytes(), yaml.CSafeLoader)["spec"]
        (version,) = [v for v in spec["versions"] if v["name"] == "v1"]
        schemas[spec["names"]["kind"]] = closed(version["schema"]["openAPIV3Schema"])
    return schemas


def closed(schema):
    """Return a definition's schema with every field refused that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and schema.get("properties"):
        inner.setdefault("additionalProperties", False)
    return inner


def test_field_that_kuberay_does_not_have_is_found():
    ((document, _),) = clusters_of(render("cpu"))
    document = json.loads(json.dumps(document))
    document["spec"]["rayClusterConfig"]["autoScalerOptions"] = {}
    with pytest.raises(ValidationError, match="autoScalerOptions"):
        records.read_cluster(document)


@pytest.mark.parametrize("name", NAMES)
def test_token_is_asked_for_and_ray_is_the_pinned_one(name):
    pins = (ROOT / "requirements-image.lock").read_text(encoding="utf-8")
    for _, cluster in clusters_of(render(name)):
        assert cluster.authOptions.mode == "token"
        assert f"ray=={cluster.rayVersion}" in pins


def assert_restricted(pod, container):
    """What the Pod Security Standard "restricted" asks of a container, its pod's share included."""
    security = pod | container
    assert security["runAsNonRoot"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("name", NAMES)
def test_restricted_namespace_takes_every_container(name):
    documents = render(name)
    templates = [pod for _, _, pod in groups_of(documents)]
    templates += [job["spec"]["submitterPodTemplate"] for job in of_kind(documents, "RayJob")]
    for pod in templates:
        for container in pod["spec"]["containers"]:
            assert_restricted(pod["spec"]["securityContext"], container["securityContext"])
            assert set(container["resources"]) == {"requests", "limits"}
            assert not container["image"].endswith(":latest")
    for _, cluster in clusters_of(documents):  # KubeRay adds this container to the head
        assert_restricted({}, cluster.autoscalerOptions.securityContext)


@pytest.mark.parametrize("name", NAMES)
def test_heads_alone_hold_the_token_of_their_account(name):
    (account,) = of_kind(render(name), "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    for _, group, pod in groups_of(render(name)):
        assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
        assert pod["spec"]["automountServiceAccountToken"] is (group == "head")


@pytest.mark.parametrize("name", NAMES)
def test_served_pods_wait_for_no_data_and_change_no_run(name):
    documents = render(name)
    claims = {c["metadata"]["name"] for c in of_kind(documents, "PersistentVolumeClaim")}
    given = {"xmoe-runs", "recordings"} if name == "jobs" else set()
    for document, _, pod in groups_of(documents):
        used = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["spec"]["volumes"]
            if "persistentVolumeClaim" in volume
        }
        assert used <= claims | given
        served = document["kind"] == "RayService"
        for mount in pod["spec"]["containers"][0]["volumeMounts"]:
            assert not (served and mount["name"] == "data")
            if mount["name"] == "runs":
                assert mount["readOnly"] is served
    jobs = [pod for d, _, pod in groups_of(documents) if d["kind"] == "RayJob"]
    if name == "jobs":
        assert all("data" in {v["name"] for v in pod["spec"]["volumes"]} for pod in jobs)


@pytest.mark.parametrize("name", NAMES)
def test_shared_memory_holds_the_object_store(name):
    """Ray takes 30 % of a pod's memory for it, and goes to /tmp where /dev/shm is smaller."""
    for _, _, pod in groups_of(render(name)):
        (size,) = [v["emptyDir"]["sizeLimit"] for v in pod["spec"]["volumes"] if v["name"] == "shm"]
        limits = pod["spec"]["containers"][0]["resources"]["limits"]
        assert size == limits["memory"]


def test_edges_speak_tls_and_send_to_the_service_that_kuberay_makes():
    (ingress,) = of_kind(render("gpu"), "Ingress")
    assert ingress["spec"]["tls"] == [
        {"hosts": ["sound.example"], "secretName": "sound-example-tls"}
    ]
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "xmoe-serve-svc", "port": {"number": 8000}}
    (gateway,) = of_kind(render("cpu"), "Gateway")
    (listener,) = gateway["spec"]["listeners"]
    assert listener["tls"]["certificateRefs"] == [{"name": "sound-example-tls"}]
    (route,) = of_kind(render("cpu"), "HTTPRoute")
    removed = route["spec"]["rules"][0]["filters"][0]["requestHeaderModifier"]["remove"]
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    assert all(f"`{header}`" in page for header in removed)


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_one_pod_of_a_group_is_drained_at_a_time_and_groups_are_spread(name):
    documents = render(name)
    minimum = {}
    for document, cluster in clusters_of(documents):
        if document["kind"] == "RayService":
            for group in cluster.workerGroupSpecs:
                labels = group.template["metadata"]["labels"]
                minimum[labels["app.kubernetes.io/component"]] = group.minReplicas
                for constraint in group.template["spec"]["topologySpreadConstraints"]:
                    assert constraint["labelSelector"]["matchLabels"] == labels
    budgets = {
        b["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]: b["spec"]
        for b in of_kind(documents, "PodDisruptionBudget")
    }
    assert set(budgets) == {component for component, least in minimum.items() if least >= 2}
    for component, spec in budgets.items():
        assert spec["minAvailable"] == minimum[component] - 1


def test_only_named_sources_come_in():
    documents = template("--set", "service.run=/runs/a")
    policies = {d["metadata"]["name"]: d["spec"] for d in of_kind(documents, "NetworkPolicy")}
    assert set(policies) == {"xmoe-ray", "xmoe-redis"}
    own = {"app.kubernetes.io/part-of": "xmoe", "app.kubernetes.io/instance": "xmoe"}
    assert policies["xmoe-ray"]["podSelector"]["matchLabels"] == own
    assert policies["xmoe-redis"]["egress"] == []
    namespaces = {}
    for rule in policies["xmoe-ray"]["ingress"]:
        for peer in rule["from"]:
            if "namespaceSelector" in peer:
                (name,) = peer["namespaceSelector"]["matchLabels"].values()
                namespaces[name] = [port["port"] for port in rule["ports"]]
            else:
                assert peer["podSelector"]["matchLabels"] == own
    assert namespaces == {
        "kuberay-operator": [8265, 52365],
        "monitoring": [8080],
        "ingress-nginx": [8000],
    }
    for _, _, pod in groups_of(documents):
        assert own.items() <= pod["metadata"]["labels"].items()
