"""``xmoe deploy`` and its kin: options, settings, what is refused before a cluster is asked."""

import socket
from contextlib import nullcontext

import pytest

from tests.fixtures.runs import write_figures, write_run
from xmoe.cli import main
from xmoe.cli.deploy import make_settings, read_settings
from xmoe.serve.deploy.registry import Change, Registry, State, TrialPlan, Version
from xmoe.serve.settings import ServeSettings
from xmoe.serve.start import cluster

# Ray Serve warns when it is imported, here or by whoever came before.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ASKED = {"settings_file": None, "topology": None, "token_file": None}


@pytest.fixture
def no_cluster(monkeypatch):
    """Fail where a cluster is joined."""

    def join(address):
        raise AssertionError("a cluster was joined")

    monkeypatch.setattr(cluster, "connected_to", join)
    monkeypatch.delenv("XMOE_TOKEN", raising=False)


@pytest.fixture
def make_run(tmp_path):
    def make(name, right, seed=0):
        run = write_run(tmp_path / name, seed=seed)
        write_figures(run, [True] * right + [False] * (100 - right))
        return run

    return make


def serve(registry, run):
    """Note a run as the version that is served."""
    settings = ServeSettings(run=str(run), topology="colocated", experts={"low": {"threads": 2}})
    version = Version(
        number=1, settings=settings, weights_sha256="a" * 64, by="me@here", at="then", why="first"
    )
    state = State(versions=(version,), production=1)
    return Registry(str(registry), "xmoe").write(state, Change(what="deployed", version=1))


@pytest.mark.usefixtures("no_cluster")
def test_worse_run_is_refused_before_anything_is_sent(run_json, make_run, tmp_path):
    serve(tmp_path / "registry", make_run("old", 90))
    bad = make_run("bad", 8)
    code, fields = run_json("deploy", bad, "--registry", tmp_path / "registry")
    assert code == 2
    assert fields["what"].startswith("the run is not deployed: accuracy 0.0800 is no better")
    assert "--force" in fields["mend"]
    assert Registry(str(tmp_path / "registry"), "xmoe").read().serial == 1


@pytest.mark.usefixtures("no_cluster")
def test_unknown_setting_is_refused_before_anything_is_sent(run_json, make_run, tmp_path):
    file = tmp_path / "s.json"
    file.write_text('{"router": {"replcas": 2}}')
    code, fields = run_json(
        "deploy", make_run("new", 90), "--registry", tmp_path / "r", "--settings", file
    )
    assert (code, fields["where"]) == (2, "router.replcas")


def test_port_in_use_is_refused_before_serve_is_started(run_json, make_run, tmp_path, monkeypatch):
    monkeypatch.delenv("XMOE_TOKEN", raising=False)
    monkeypatch.setattr(cluster, "connected_to", nullcontext)
    monkeypatch.setattr(cluster, "look_around", lambda: None)
    monkeypatch.setattr("xmoe.serve.start.stage.ServeStage.runs", lambda stage, app: False)
    run, registry = make_run("good", 90), tmp_path / "registry"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, fields = run_json("deploy", run, "--registry", registry, "--port", port)
    assert (code, fields["what"]) == (2, f"port {port} of 127.0.0.1 is in use")
    assert not registry.exists()


@pytest.mark.usefixtures("no_cluster")
def test_two_trials_at_once_are_refused(run_json, make_run, tmp_path):
    trials = ("--shadow", "--canary", "5%")
    code, fields = run_json("deploy", make_run("new", 90), "--registry", tmp_path / "r", *trials)
    assert (code, "give one" in fields["what"]) == (2, True)
    code, _ = run_json("deploy", make_run("n", 90), "--registry", tmp_path, "--canary", "500%")
    assert code == 2


def test_a_missing_registry_says_which_variable_may_name_it(run_json, monkeypatch):
    monkeypatch.delenv("XMOE_REGISTRY", raising=False)
    code, fields = run_json("rollback")
    assert (code, "--registry" in fields["what"], "XMOE_REGISTRY" in fields["what"]) == (
        2,
        True,
        True,
    )


def test_settings_are_those_of_the_served_version_unless_given(make_run, tmp_path):
    run = str(make_run("new", 90))
    before = ServeSettings(
        run="/old",
        topology="colocated",
        faults={"deadline_ms": 500.0},
        experts={"low": {"threads": 2}, "gone": {"threads": 2}},
    )
    made = make_settings(run, before, ASKED)
    assert (made.run, made.topology, made.faults.deadline_ms) == (run, "colocated", 500.0)
    assert set(made.experts) == {"low"}
    assert make_settings(run, before, ASKED | {"topology": "distributed"}).topology == "distributed"
    file = tmp_path / "s.yaml"
    file.write_text("topology: distributed\nrouter: {replicas: 3}\n")
    made = make_settings(run, before, ASKED | {"settings_file": file})
    assert (made.topology, made.router.replicas) == ("distributed", 3)
    assert made.faults.deadline_ms == 2000.0


def test_file_of_deployments_gives_its_arguments(tmp_path):
    from pathlib import Path

    found = read_settings(Path(__file__).parents[2] / "deployments" / "cpu.yaml")
    assert found["router"]["replicas"] == 2


@pytest.mark.parametrize("text", ["[1, 2]", "{", "applications: []", "applications: [{}]"])
def test_file_without_settings_is_an_error(tmp_path, text):
    from xmoe.base.errors import ConfigError

    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="no settings"):
        read_settings(file)


def test_versions_are_listed(run_json, capsys, make_run, tmp_path):
    run = make_run("old", 90)
    state = serve(tmp_path / "registry", run)
    trial = {"trial": TrialPlan(version=1, mode="shadow")}
    Registry(str(tmp_path / "registry"), "xmoe").write(
        state.model_copy(update=trial), Change(what="on trial", version=1, why="because")
    )
    code, fields = run_json("versions", "--registry", tmp_path / "registry")
    assert code == 0
    assert fields["state"]["production"] == 1
    with pytest.raises(SystemExit):
        main(["versions", "--registry", str(tmp_path / "registry")])
    text = capsys.readouterr().out
    assert "production" in text
    assert "first" in text
    assert "on trial 1" in text
    assert "because" in text
