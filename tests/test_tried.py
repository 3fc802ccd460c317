"""docs/robustness.md lists what was tried, from where, and tests that hold it."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/robustness.md").read_text(encoding="utf-8")
SITUATION = re.compile(
    r"^\| .* \| `(?P<file>[\w/.]+)` `(?P<test>test_\w+)` \| (?P<report>.*) \|$", re.M
)
FILE = re.compile(r"^\| \[[^]]+\]\(https://github\.com/\S+\) \| (?P<verdict>.+) \|$", re.M)
REPORT = re.compile(r"\[[\w.-]+ #\d+\]\(https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+\)")


def test_every_situation_is_held_by_a_test_that_exists():
    rows = list(SITUATION.finditer(PAGE))
    assert len(rows) >= 60
    for row in rows:
        source = (ROOT / "tests" / row["file"]).read_text(encoding="utf-8")
        assert f"def {row['test']}(" in source, row["test"]


def test_every_situation_says_where_it_comes_from():
    for row in SITUATION.finditer(PAGE):
        reports = row["report"].split(", ")
        assert reports == ["of the same kind"] or all(map(REPORT.fullmatch, reports)), reports


def test_every_file_has_a_verdict_and_there_are_ninety_inputs():
    verdicts = [row["verdict"] for row in FILE.finditer(PAGE)]
    known = ("answered", "left out by its ending", "`")
    assert all(verdict.startswith(known) for verdict in verdicts)
    assert len(verdicts) + len(SITUATION.findall(PAGE)) >= 90
