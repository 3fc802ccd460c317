"""``xmoe infer --input``: options to a request, and what is said at the end."""

from dataclasses import replace

import pytest

from xmoe.batch.run import BatchSummary
from xmoe.cli.batch import describe_batch
from xmoe.jobs import infer as jobs

SUMMARY = BatchSummary("preds", 5, 1, 2, 1, 3, 2, ("a.wav",), ("left out, by ending: .txt (1)",))


@pytest.fixture
def asked(monkeypatch):
    """Put a job that only notes its request in the place of the real one."""
    calls = []

    def run_infer(request, **options):
        calls.append((request, options))
        return SUMMARY

    monkeypatch.setattr(jobs, "run_infer", run_infer)
    return calls


def test_options_become_a_request(asked, run_json):
    options = ["--format", "csv", "--shard-size", 7, "--workers", 2, "--engine", "ray"]
    code, fields = run_json("infer", "RUN", "--input", "s3://b/x", "--output", "preds", *options)
    assert code == 0
    assert (fields["rows"], fields["shards_done"], fields["repeated"]) == (5, 2, ["a.wav"])
    ((request, more),) = asked
    assert (request.run, request.source, request.output) == ("RUN", "s3://b/x", "preds")
    assert (request.format, request.shard_size) == ("csv", 7)
    assert (more["workers"], more["engine"]) == (2, "ray")


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (("--input", "x"), "--input and --output go together"),
        (("a.wav", "--input", "x", "--output", "y"), "--input and --output go together"),
        (("--output", "x"), "--output: give --input or --hop too"),
        (("a.wav", "--shard-size", "3"), "--shard-size: give --input too"),
        (("--input", "x", "--output", "y", "--hop", "1"), "--hop: does not go with --input"),
        (("--input", "x", "--output", "y", "--format", "raven"), "one of parquet, csv, jsonl"),
    ],
)
def test_options_that_do_not_go_together(asked, run_json, args, what):
    code, fields = run_json("infer", "RUN", *args)
    assert code == 2
    assert what in fields["what"]
    assert asked == []


@pytest.mark.parametrize(
    ("bad", "strict", "code"), [(0, True, 0), (1, False, 0), (1, True, 2), (5, False, 2)]
)
def test_nothing_answered_is_no_success(monkeypatch, run_json, bad, strict, code):
    monkeypatch.setattr(jobs, "run_infer", lambda request, **_: replace(SUMMARY, bad=bad))
    options = ("--input", "x", "--output", "y", *(("--strict",) if strict else ()))
    found, fields = run_json("infer", "RUN", *options)
    assert (found, fields["ok"]) == (code, code == 0)


def test_answers_are_parquet_if_nothing_is_said(asked, run_json):
    code, _ = run_json("infer", "RUN", "--input", "x", "--out", "preds")
    assert code == 0
    assert (asked[0][0].format, asked[0][0].output) == ("parquet", "preds")


def test_end_says_what_was_odd_and_what_was_kept():
    text = "\n".join(describe_batch(SUMMARY))
    assert "left out, by ending: .txt (1)" in text
    assert "1 named more than once, answered once: a.wav" in text
    assert "5 recordings, one row each; 1 could not be read (why: preds/_quarantine.csv)" in text
    assert "3 files, 1 of them from before" in text
