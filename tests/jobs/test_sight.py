"""A node that does not see a path is named before any work is done."""

import pytest

from xmoe.jobs import sight


def test_missing_paths(tmp_path):
    assert sight.missing_here([str(tmp_path), str(tmp_path / "x")]) == [str(tmp_path / "x")]


def test_stores_are_left_to_the_command():
    assert sight.find_unseen(["s3://bucket/x"]) == []
    assert sight.main(["s3://bucket/x"]) == 0


def test_unseen_paths_are_told_with_their_nodes(monkeypatch, capsys):
    monkeypatch.setattr(sight, "find_unseen", lambda paths: [("10.0.0.3", "/data")])
    assert sight.main(["/data"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "xmoe: /data: node 10.0.0.3 does not see it"
    assert "to fix it" in lines[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_node_is_asked(tmp_path):
    import ray

    started = not ray.is_initialized()
    try:
        assert [path for _, path in sight.find_unseen([str(tmp_path), "/no/such"])] == ["/no/such"]
    finally:
        if started:
            ray.shutdown()
