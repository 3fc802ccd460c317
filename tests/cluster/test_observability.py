"""Alerts and dashboard name only metrics that exist, and each alert is explained to people."""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "observability"
FILES = ROOT / "cluster" / "chart" / "files"
ALERTS = yaml.safe_load((FILES / "alerts.yaml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((FILES / "grafana-dashboard.json").read_text(encoding="utf-8"))
TARGETS = [target for panel in DASHBOARD["panels"] for target in panel["targets"]]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [target["expr"] for target in TARGETS]
KINDS = {
    "Counter": ("_total",),
    "Histogram": ("_bucket", "_sum", "_count"),
    "Gauge": ("",),
}


def metrics_of(path):
    """Return {exported name: tag keys} of the Ray metrics that a module makes."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = getattr(getattr(node, "func", None), "id", "")
        if isinstance(node, ast.Call) and name in KINDS:
            tags = [k.value for k in node.keywords if k.arg == "tag_keys"]
            assert ast.unparse(tags[0]).startswith("with_whose("), "it does not say whose it is"
            keys = {key.value for key in tags[0].args}
            for suffix in KINDS[name]:
                found[f"ray_{node.args[0].value}{suffix}"] = keys
    return found


OURS = metrics_of(ROOT / "xmoe" / "serve" / "telemetry" / "metrics.py")


def names_in(expression):
    return set(re.findall(r"\bray_[a-z0-9_]+\b", expression))


def test_our_metrics_are_found_by_reading_the_code():
    assert OURS["ray_xmoe_expert_calls_total"] == {"expert", "outcome"}
    assert OURS["ray_xmoe_stage_ms_bucket"] == {"stage"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression_uses_metrics_that_the_code_emits(expression):
    for name in names_in(expression):
        if name.startswith("ray_xmoe_"):
            assert name in OURS
            grouped = (
                set(re.findall(r"by \(([^)]*)\)", expression)[0].replace(" ", "").split(","))
                if "by (" in expression
                else set()
            )
            assert grouped - {"le"} <= OURS[name]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_metrics_of_ray_are_those_of_the_installed_ray():
    import ray

    folder = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards"
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    known = set(re.findall(r"\bray_[a-z0-9_]+\b", text))
    used = {name for e in EXPRESSIONS for name in names_in(e) if not name.startswith("ray_xmoe_")}
    assert used
    assert used <= known


def test_refusal_codes_in_alerts_are_codes_of_the_service():
    sources = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "xmoe" / "serve").rglob("*.py")
    )
    codes = {
        c for e in EXPRESSIONS for m in re.findall(r'code=~"([^"]+)"', e) for c in m.split("|")
    }
    assert codes
    assert all(f'"{code}"' in sources for code in codes)


def test_promtool_takes_rules_and_scrape_configuration(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    for path in (FILES / "alerts.yaml", FOLDER / "prometheus.yaml"):
        shutil.copy(path, tmp_path)
    for command, name in (("rules", "alerts.yaml"), ("config", "prometheus.yaml")):
        done = subprocess.run(
            [promtool, "check", command, name], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_compose_hands_prometheus_the_files_that_it_reads():
    compose = yaml.safe_load((ROOT / "cluster" / "compose.yaml").read_text(encoding="utf-8"))
    for mount in compose["services"]["prometheus"]["volumes"]:
        assert (ROOT / "cluster" / mount.split(":")[0]).is_file()


def test_job_that_alerts_ask_for_is_the_one_that_is_scraped():
    asked = {job for e in EXPRESSIONS for job in re.findall(r'job="([^"]+)"', e)}
    scraped = yaml.safe_load((FOLDER / "prometheus.yaml").read_text(encoding="utf-8"))
    assert asked == {"ray"} == {one["job_name"] for one in scraped["scrape_configs"]}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_says_what_and_how_bad(rule):
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]


def test_operations_say_what_to_do_about_each_alert_and_about_no_other():
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    explained = re.findall(r"^### ((?:Xmoe|Ray)\w+)$", page, re.MULTILINE)
    assert explained == [rule["alert"] for rule in RULES]


def test_dashboard_is_what_its_builder_writes():
    spec = importlib.util.spec_from_file_location("make_dashboard", FOLDER / "make_dashboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.build_dashboard() == DASHBOARD


def test_panels_do_not_overlap():
    cells = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in cells
                cells.add((x, y))
