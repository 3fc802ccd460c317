"""A job is one command line; what cannot be run there is refused here."""

import sys
from types import SimpleNamespace

import pytest

from xmoe.base.errors import ConfigError, XmoeError
from xmoe.jobs import submit as jobs
from xmoe.jobs.submit import JobRequest, check_paths, follow, is_here, make_entrypoint

ADDRESS = "http://127.0.0.1:8265"


class FakeClient:
    """Takes jobs, has a log, and ends as it is told."""

    def __init__(self, pieces=("one\n", "two\n"), status="SUCCEEDED", error=None, code=0):
        self.pieces, self.status, self.error, self.code = pieces, status, error, code
        self.taken = []

    def submit_job(self, **settings):
        if self.error:
            raise self.error
        self.taken.append(settings)
        return "raysubmit_1"

    async def tail_job_logs(self, job_id):
        for piece in self.pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def get_job_info(self, job_id):
        status = SimpleNamespace(value=self.status)
        return SimpleNamespace(status=status, message=None, driver_exit_code=self.code)


def test_entrypoint_looks_before_it_works():
    request = JobRequest(ADDRESS, ("eval", "/r u n"), sees=("/r u n", "s3://b/x"), python="py")
    assert make_entrypoint(request) == (
        "py -m xmoe.jobs.sight '/r u n' s3://b/x && py -m xmoe eval '/r u n'"
    )
    assert make_entrypoint(JobRequest(ADDRESS, ("synth", "set"))) == "python -m xmoe synth set"


@pytest.mark.parametrize(
    ("address", "here"),
    [
        (ADDRESS, True),
        ("http://localhost:1", True),
        ("http://[::1]:1", True),
        ("http://10.0.0.3:8265", False),
        ("https://ray.example.org", False),
        ("auto", False),
    ],
)
def test_this_machine_is_told_by_its_address(address, here):
    assert is_here(address) is here
    assert jobs.default_python(address) == (sys.executable if here else "python")


def test_paths_that_every_node_may_see(tmp_path):
    check_paths(["/data", "s3://b/x"], tmp_path)
    check_paths([str(tmp_path)], None)


@pytest.mark.parametrize("path", ["data", "./data", "../data"])
def test_relative_path_is_refused(path):
    with pytest.raises(ConfigError, match="relative path") as caught:
        check_paths([path], None)
    assert caught.value.where == path


def test_recordings_are_never_uploaded(tmp_path):
    with pytest.raises(ConfigError, match="not uploaded") as caught:
        check_paths([str(tmp_path / "data")], tmp_path)
    assert "s3://" in (caught.value.mend or "")


def test_nothing_but_the_command_travels():
    client = FakeClient()
    assert jobs.submit(client, JobRequest(ADDRESS, ("synth", "set"))) == "raysubmit_1"
    (taken,) = client.taken
    assert taken["runtime_env"] == {}


def test_code_and_variables_travel_where_they_are_named(tmp_path):
    client = FakeClient()
    jobs.submit(client, JobRequest(ADDRESS, ("synth", "set"), working_dir=tmp_path, env={"A": "1"}))
    assert client.taken[0]["runtime_env"] == {"working_dir": str(tmp_path), "env_vars": {"A": "1"}}


def test_job_that_is_not_taken():
    client = FakeClient(error=RuntimeError("Request failed with status code 500\nmore"))
    with pytest.raises(XmoeError, match="did not take the job: Request failed") as caught:
        jobs.submit(client, JobRequest(ADDRESS, ("synth", "set")))
    assert caught.value.where == ADDRESS


def test_log_is_shown_as_it_comes():
    shown = []
    end = follow(FakeClient(status="FAILED", code=2), "raysubmit_1", shown.append)
    assert shown == ["one\n", "two\n"]
    assert (end.job_id, end.status, end.exit_code) == ("raysubmit_1", "FAILED", 2)


def test_log_that_is_lost_says_so():
    client = FakeClient(pieces=["one\n", RuntimeError("WebSocket connection closed")])
    with pytest.raises(XmoeError, match="log was lost: WebSocket"):
        follow(client, "raysubmit_1", lambda piece: None)


def test_no_cluster_is_a_clear_error(monkeypatch):
    with pytest.raises(ConfigError, match="no cluster answers") as caught:
        jobs.connect("http://127.0.0.1:9")
    assert "ray start" in (caught.value.mend or "")


def test_commands_for_later_name_cluster_and_job():
    follow_it, stop_it = jobs.describe_commands(ADDRESS, "raysubmit_1")
    assert follow_it == f"follow it: ray job logs --address {ADDRESS} raysubmit_1 --follow"
    assert stop_it == f"stop it: ray job stop --address {ADDRESS} raysubmit_1"
