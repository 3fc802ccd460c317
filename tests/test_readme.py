"""The README is true: its commands, options, links and names exist; CONTRIBUTING's tree too."""

import re
from pathlib import Path

import click
import pytest

from xmoe import MoEAudioClassifier
from xmoe.cli import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND_LINES = re.findall(r"^\$ \.venv/bin/xmoe (.+)$", README, re.MULTILINE)
LINKS = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TREE = re.findall(r"^  ([a-z_]+(?:/|\.py))", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_lines_name_commands_and_options_that_exist(line):
    name, *rest = line.split()
    known = cli.commands[name]
    if isinstance(known, click.Group):
        known = known.commands[rest.pop(0)]
    options = {option for param in known.params for option in param.opts}
    assert {word for word in rest if word.startswith("--")} <= options


def test_there_are_command_lines_links_and_folders():
    assert (len(COMMAND_LINES) >= 4, len(LINKS) >= 3, len(TREE) >= 10) == (True, True, True)


@pytest.mark.parametrize("link", LINKS)
def test_links_lead_somewhere(link):
    path, _, place = link.partition("#")
    text = (ROOT / path).read_bytes() if path else README.encode()
    headings = re.findall(r"^#+ (.+)$", text.decode(errors="replace"), re.MULTILINE)
    places = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
    assert not place or place in places


@pytest.mark.parametrize("name", TREE)
def test_the_tree_is_there(name):
    assert (ROOT / "xmoe" / name).exists()


def test_make_targets_exist():
    targets = re.findall(r"^\$ make (\S+)$", README, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test"} <= set(targets)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_python_names_exist():
    used = set(re.findall(r"\bmodel\.([a-z_]+)", README))
    assert {"fit", "predict", "predict_proba", "explain"} <= used
    assert [name for name in used if not hasattr(MoEAudioClassifier, name)] == []


def test_nothing_is_left_to_fill_in():
    assert "<!--" not in README
