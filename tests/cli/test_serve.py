"""``xmoe serve``: options to settings, what is printed, addresses that need a token."""

import tempfile
from contextlib import contextmanager

import pytest

from xmoe.cli.serve import describe_start, open_log
from xmoe.serve.settings import CorrectionSettings, HttpSettings, ServeSettings
from xmoe.serve.start import session
from xmoe.serve.start.cluster import Place

places = []


@pytest.fixture
def served(monkeypatch):
    """Put a service that only notes its settings in the place of the real one."""
    calls = []
    places.clear()

    @contextmanager
    def serving(settings, *, host, port, ingress, place):
        session.check_address(host, settings)
        calls.append(settings)
        places.append(place)
        yield f"http://{host}:{port}"

    monkeypatch.setattr(session, "serving", serving)
    monkeypatch.setattr(session, "wait_for_signal", lambda: None)
    monkeypatch.delenv("XMOE_TOKEN", raising=False)
    return calls


def test_options_become_settings(served, run_json, tmp_path):
    code, fields = run_json(
        "serve", tmp_path, "--port", 9000, "--topology", "colocated", "--deadline-ms", 500
    )
    assert code == 0
    assert fields["address"] == "http://127.0.0.1:9000"
    (settings,) = served
    assert (settings.run, settings.topology) == (str(tmp_path), "colocated")
    assert settings.faults.deadline_ms == 500.0
    assert settings.corrections == CorrectionSettings()


def test_corrections_go_where_they_are_told(served, run_json, tmp_path):
    assert run_json("serve", tmp_path, "--corrections", tmp_path / "said", "--keep-sounds")[0] == 0
    wanted = CorrectionSettings(folder=str(tmp_path / "said"), keep_sounds=True)
    assert served[0].corrections == wanted


def test_ray_is_its_own_unless_a_cluster_is_named(served, run_json, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    run_json("serve", tmp_path)
    assert (places[0].address, places[0].name, places[0].route_prefix) == (None, "xmoe", "/")
    run_json("serve", tmp_path, "--address", "10.0.0.1:6379", "--name", "birds", "--replace")
    assert places[1] == Place("10.0.0.1:6379", "birds", replace=True)


def test_address_of_a_store_is_left_as_it_is(served, run_json):
    run_json("serve", "s3://bucket/run")
    assert served[0].run == "s3://bucket/run"


def test_others_are_not_let_in_without_a_token(served, run_json, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, fields = run_json("serve", tmp_path, "--host", "0.0.0.0")
    assert (code, fields["where"]) == (2, "--host")
    assert not list(tmp_path.iterdir())  # no log of a service that never began
    monkeypatch.setenv("XMOE_TOKEN", "0123456789abcdef")
    assert run_json("serve", tmp_path, "--host", "0.0.0.0")[0] == 0


def test_log_with_a_line_in_it_stays(tmp_path):
    with open_log(tmp_path / "log") as log:
        log.write("why")
    assert (tmp_path / "log").read_text() == "why"


def test_line_to_try_carries_the_way_to_the_token_not_the_token(tmp_path, monkeypatch):
    monkeypatch.delenv("XMOE_TOKEN", raising=False)
    plain = describe_start("http://127.0.0.1:8000", ServeSettings(run="r"))
    assert "curl --data-binary @clip.wav http://127.0.0.1:8000/v1/classify" in plain[2]
    path = tmp_path / "token"
    path.write_text("0123456789abcdef")
    settings = ServeSettings(run="r", http=HttpSettings(token_file=str(path)))
    line = describe_start("http://127.0.0.1:8000", settings)[2]
    assert f"Bearer $(cat {path})" in line
    assert "0123456789abcdef" not in line
