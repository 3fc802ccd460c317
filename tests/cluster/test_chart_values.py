"""Values of the chart: the service of deployments/, jobs that run, mistakes that are refused."""

import importlib.util
import json

import pytest
import yaml

from tests.fixtures import crd_records as records
from tests.fixtures.chart import (
    CHART,
    ROOT,
    clusters_of,
    groups_of,
    helm,
    needs_helm,
    of_kind,
    render,
    served,
    template,
)
from xmoe.serve.start.build import check_settings

pytestmark = needs_helm


def test_defaults_serve_what_deployments_cpu_serves():
    config, args = served(template("--set", "service.run=/runs/2025-06-01"))
    plain = yaml.safe_load((ROOT / "deployments" / "cpu.yaml").read_text(encoding="utf-8"))
    assert check_settings(args) == check_settings(plain["applications"][0]["args"])
    assert config["http_options"] == plain["http_options"] | {"host": "0.0.0.0"}
    for key in ("proxy_location", "logging_config"):
        assert config[key] == plain[key]
    for key in ("name", "route_prefix", "import_path"):
        assert config["applications"][0][key] == plain["applications"][0][key]


@pytest.mark.parametrize("name", ["kind", "cpu", "gpu"])
def test_served_settings_are_ours_and_ask_for_the_token(name):
    _, args = served(render(name))
    settings = check_settings(args)
    for document, _, pod in groups_of(render(name)):
        if document["kind"] == "RayService":
            (variable,) = pod["spec"]["containers"][0]["env"]
            assert variable["name"] == settings.http.token_variable
            assert variable["valueFrom"]["secretKeyRef"] == {
                "name": "xmoe-api-token",
                "key": "token",
            }


@pytest.mark.parametrize("name", ["kind", "cpu", "gpu"])
def test_resources_that_actors_ask_for_are_those_that_groups_have(name):
    _, args = served(render(name))
    settings = check_settings(args)
    asked = set()
    for one in (settings.router, settings.expert, *settings.experts.values()):
        asked |= set(one.resources)
    ((_, cluster),) = [
        pair for pair in clusters_of(render(name)) if pair[0]["kind"] == "RayService"
    ]
    offered = {resource for group in cluster.workerGroupSpecs for resource in group.resources}
    assert asked == offered
    gpus = {one.num_gpus > 0 for one in (settings.router, settings.expert)} == {True}
    limits = [
        g.template["spec"]["containers"][0]["resources"]["limits"] for g in cluster.workerGroupSpecs
    ]
    assert gpus == any("nvidia.com/gpu" in limit for limit in limits)


def test_gpu_serves_as_deployments_gpu_beside_the_backbones():
    _, args = served(render("gpu"))
    plain = yaml.safe_load((ROOT / "deployments" / "gpu.yaml").read_text(encoding="utf-8"))
    for part in ("router", "expert"):
        theirs = plain["applications"][0]["args"][part]
        assert {key: args[part][key] for key in theirs} == theirs


def test_named_expert_has_from_the_others_what_it_does_not_say(tmp_path):
    """So that values written by `xmoe size` and by `xmoe plan` add up."""
    sized, planned = tmp_path / "sizes.json", tmp_path / "plan.json"
    for path, settings in (
        (sized, {"expert": {"memory_mb": 516.0}}),
        (planned, {"experts": {"low": {"min_replicas": 3, "max_replicas": 6}}}),
    ):
        path.write_text(json.dumps({"service": {"settings": settings}}), encoding="utf-8")
    _, args = served(template("-f", "values/cpu.yaml", "-f", str(sized), "-f", str(planned)))
    low = check_settings(args).deployment_of("low")
    assert (low.min_replicas, low.memory_mb) == (3, 516.0)
    assert low.resources == {"experts": 1.0}


def test_upgrade_by_steps_has_a_gateway_and_a_cluster_for_each_run():
    (document,) = of_kind(render("cpu"), "RayService")
    upgrade = records.ServiceSpec.model_validate(document["spec"]).upgradeStrategy
    assert upgrade.type == "NewClusterWithIncrementalUpgrade"
    options = upgrade.clusterUpgradeOptions
    assert options.stepSizePercent <= options.maxSurgePercent
    for _, _, pod in groups_of(render("cpu")):
        assert pod["metadata"]["annotations"] == {"xmoe/run": "/runs/2025-06-01"}
    (route,) = of_kind(render("cpu"), "HTTPRoute")
    (rule,) = route["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "xmoe-gateway-istio", "port": 80}]


def test_pods_are_scraped_where_they_open_the_port_as_the_job_that_alerts_ask_for():
    (monitor,) = of_kind(render("cpu"), "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    job = next(one for one in endpoint["relabelings"] if one["targetLabel"] == "job")
    (rules,) = of_kind(render("cpu"), "PrometheusRule")
    (down,) = [
        rule
        for group in rules["spec"]["groups"]
        for rule in group["rules"]
        if rule["alert"] == "RayNodeDown"
    ]
    assert down["expr"] == f'up{{job="{job["replacement"]}"}} == 0'
    for _, _, pod in groups_of(render("cpu")):
        ports = {
            port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]
        }
        assert ports[endpoint["port"]] == 8080


def test_rules_and_dashboard_are_the_files_themselves():
    (rules,) = of_kind(render("cpu"), "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text("utf-8"))
    (dashboard,) = of_kind(render("cpu"), "ConfigMap")
    plain = json.loads((CHART / "files" / "grafana-dashboard.json").read_text("utf-8"))
    assert json.loads(dashboard["data"]["xmoe.json"]) == plain


@pytest.mark.parametrize("name", ["kind", "jobs"])
def test_job_is_a_command_that_the_command_line_takes(name):
    from xmoe.cli import cli

    for document in of_kind(render(name), "RayJob"):
        words = document["spec"]["entrypoint"].split()
        assert words[0] == "xmoe"
        known = {option for parameter in cli.commands[words[1]].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_changed_command_is_another_job():
    def job(words):
        one = "service.enabled=false,redis.mode=none"
        (document,) = of_kind(
            template("--set", f"{one},jobs.measure.entrypoint=xmoe profile {words}"), "RayJob"
        )
        return document["metadata"]["name"]

    assert job("/a") == job("/a") != job("/b")
    assert len(job("/a")) <= 47  # what KubeRay allows


def test_secrets_that_are_named_are_told_of():
    text = (CHART / "README.md").read_text(encoding="utf-8")
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for secret in (*values["secrets"].values(), values["redis"]["secret"]):
        assert f"secret generic {secret} " in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("service.run=", "service.run: the folder or bucket address of a run"),
        ("service.colour=red", "additional properties 'colour' not allowed"),
        ("service.settings.router.speed=9", "additional properties 'speed' not allowed"),
        ("service.settings.expert.min_replicas=0", "minimum: got 0, want 1"),
        ("service.groups.a.mni=1", "additional properties 'mni' not allowed"),
        ("images.cpu=xmoe:latest", "at '/images/cpu'"),
        ("images.cpu=xmoe", "at '/images/cpu'"),
        ("redis.mode=managed", "at '/redis/address'"),
        ("ingress.enabled=true", "at '/ingress/tlsSecret'"),
        (
            "service.upgrade.type=NewClusterWithIncrementalUpgrade,service.upgrade.gatewayClassName=e,"
            "ingress.enabled=true,ingress.host=a,ingress.tlsSecret=b",
            "service.backend.service: name the Service",
        ),
    ],
)
def test_values_that_cannot_be_meant_are_refused(change, told):
    code, text = helm("template", "xmoe", ".", "--set", f"service.run=/runs/a,{change}")
    assert code != 0
    assert told in text


def test_schema_is_what_its_builder_writes():
    """After a change of values.yaml or of the settings: python cluster/chart/make_schema.py."""
    spec = importlib.util.spec_from_file_location("make_schema", CHART / "make_schema.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.build_schema() == json.loads(
        (CHART / "values.schema.json").read_text(encoding="utf-8")
    )
