"""The notebook of ``docs/`` runs from top to bottom and finds what its text says."""

import base64
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tour.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


@pytest.mark.timeout(400)
def test_the_tour_finds_what_it_says(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    names = {}
    for index, cell in enumerate(CODE):
        exec(compile("".join(cell["source"]), f"code cell {index}", "exec"), names)
    plt.close("all")
    assert names["before"]["accuracy"] < 0.9 < names["after"]["accuracy"]
    asked = names["asked"]
    assert max(asked["background"], asked["whistle"]) < 0.5
    assert min(asked["echo_hard"], asked["echo_soft"]) > 1.5
    assert (names["answer"].label, names["answer"].k) == ("echo_soft", 2)
    assert 10 * names["found"].woken < names["found"].windows
    assert names["right"] >= 12


def test_the_tour_is_kept_with_its_pictures():
    assert NOTEBOOK.stat().st_size < 600_000
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    pictures = [out["data"]["image/png"] for out in outputs if "image/png" in out.get("data", {})]
    assert len(pictures) >= 6
    assert all(base64.b64decode(one).startswith(b"\x89PNG") for one in pictures)
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))


def test_the_links_of_the_tour_lead_somewhere():
    text = "".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) >= 5
    assert [link for link in links if not (NOTEBOOK.parent / link).is_file()] == []
