"""What is published: a wheel that holds the program and its pages, and nothing of the workshop."""

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    for kind in ("wheel", "sdist"):
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def test_a_wheel_holds_every_file_of_the_program(built):
    names = set(zipfile.ZipFile(built[0]).namelist())
    ours = [p for top in ("xmoe", "xmoe_lite") for p in (ROOT / top).rglob("*") if p.is_file()]
    wanted = {str(p.relative_to(ROOT)) for p in ours if "__pycache__" not in p.parts}
    assert "xmoe/py.typed" in wanted
    assert wanted <= names
    strange = [name for name in names if not name.startswith(("xmoe", "xmoe-"))]
    assert strange == []


def test_a_wheel_says_what_it_needs_and_how_it_is_called(built):
    wheel = zipfile.ZipFile(built[0])
    (metadata,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
    said = message_from_bytes(wheel.read(metadata))
    assert said["Name"] == "xmoe"
    assert said["Requires-Python"] == ">=3.11"
    assert said["Description-Content-Type"] == "text/markdown"
    assert {"onnx", "litert", "hf"} <= set(said.get_all("Provides-Extra"))
    needed = [one for one in said.get_all("Requires-Dist") if "extra" not in one]
    assert any(one.startswith("torch==") for one in needed)
    (points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert b"xmoe = xmoe.cli:main" in wheel.read(points)


def test_a_source_archive_can_be_tested(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "PKG-INFO"} <= names
    for top in ("xmoe", "xmoe_lite", "tests", "benchmarks", "cluster", "deployments", "docs"):
        files = {
            str(path.relative_to(ROOT)) for path in (ROOT / top).rglob("*.*") if path.is_file()
        }
        assert {name for name in files if not re.search(r"__pycache__|/tour/", name)} <= names


def test_the_client_needs_nothing_but_python(built):
    code = f"""
import sys
sys.path.insert(0, {str(built[0])!r})
import xmoe
try:
    xmoe.Client("http://127.0.0.1:9", retries=0).model()
except xmoe.XmoeError as error:
    print(error)
print(sorted({{name.partition(".")[0] for name in sys.modules}} - sys.stdlib_module_names))
try:
    xmoe.MoEAudioClassifier
except ModuleNotFoundError as error:
    print(error.name)
"""
    alone = [sys.executable, "-I", "-S", "-c", code]
    said = subprocess.run(alone, check=True, capture_output=True, text=True).stdout
    unreached = "http://127.0.0.1:9: the service cannot be reached (is it running?)"
    assert said.splitlines() == [unreached, "['__main__', 'xmoe']", "numpy"]
