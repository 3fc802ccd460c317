"""The rules of the code base as tests: sizes, docstrings, imports, what is never written."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import bundle_of
from xmoe.run.folder import CHECKPOINTS, MANIFEST, STATE, RunFile, pointer_file

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("xmoe", "xmoe_lite") for path in (ROOT / top).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
MAX_ARGUMENTS = 6

# Tests of the whole rather than of one module.
CROSS_CUTTING = {
    "test_architecture",
    "test_autoscaling",
    "test_bad_folder",
    "test_faults",
    "test_fresh_weights",
    "test_full_disk",
    "test_golden",
    "test_kills",
    "test_localise",
    "test_nodes",
    "test_other_version",
    "test_parity",
    "test_public_api",
    "test_quantus",
    "test_readme",
    "test_package",
    "test_tour",
    "test_tried",
}
# Records and protocols, which are tested by those who fill them.
WITHOUT_TESTS = {"base/version", "experts/protocol", "pipeline/request"}
# Folders of tests that mirror something beside the package.
BESIDE_THE_PACKAGE = {"benchmarks", "cluster", "deployments"}

# An object itself, and a channel that reports and decides nothing.
NOT_COUNTED = ("self", "cls", "progress")

# Who may name a task: its home, and where it is read from a table, chosen, or put into words.
NAME_A_TASK = {
    "xmoe/audio/checks.py",
    "xmoe/audio/dataset.py",
    "xmoe/base/config.py",
    "xmoe/base/task.py",
    "xmoe/cli/train.py",
    "xmoe/profile/assemble.py",
    "xmoe/profile/leakage.py",
    "xmoe/report/outcome.py",
}

# Commands and the classifier take options as arguments; only they may have many.
MANY_ARGUMENTS = ("xmoe/cli/", "xmoe/pipeline/classifier.py")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(parse(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def called_name(node: ast.Call) -> str:
    return ast.unparse(node.func)


def test_every_file_is_read_in_one_sitting():
    lines = {name_of(path): len(path.read_text().splitlines()) for path in [*SOURCES, *TESTS]}
    assert {name: count for name, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_every_module_says_what_it_is():
    silent = [name_of(path) for path in [*SOURCES, *TESTS] if not ast.get_docstring(parse(path))]
    assert silent == []


def test_functions_are_short():
    long = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in functions(path)
        if (node.end_lineno or node.lineno) - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert long == []


def test_functions_take_few_arguments():
    crowded = []
    for path in SOURCES:
        if name_of(path).startswith(MANY_ARGUMENTS):
            continue
        for node in functions(path):
            names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
            names += [arg.arg for arg in node.args.kwonlyargs]
            count = len([name for name in names if name not in NOT_COUNTED])
            if count > MAX_ARGUMENTS and node.name != "__init__":
                crowded.append(f"{name_of(path)}:{node.lineno} {node.name} takes {count}")
    assert crowded == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_exception_is_swallowed(path):
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except in line {node.lineno}"
            silent = all(isinstance(step, ast.Pass) for step in node.body)
            assert not silent, f"swallowed in line {node.lineno}; suppress() says it by name"


def texts(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield every text of one word; docstrings and messages may name files."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            yield node


def test_only_the_run_folder_knows_its_file_names():
    names = {CHECKPOINTS, MANIFEST, STATE, *RunFile, pointer_file("best"), pointer_file("last")}
    found = [
        f"{name_of(path)}:{node.lineno} {node.value!r}"
        for path in SOURCES
        if name_of(path) != "xmoe/run/folder.py"
        for node in texts(parse(path))
        if names & {node.value, node.value.rpartition("/")[2]}
    ]
    assert found == []


def test_nothing_read_from_disk_can_run_code():
    unsafe = []
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                if {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"} & set(names):
                    unsafe.append(f"{name_of(path)}:{node.lineno} {ast.unparse(node)}")
            if isinstance(node, ast.Call):
                call, text = called_name(node), ast.unparse(node)
                loads = call in ("torch.load", "eval", "exec", "os.system")
                if loads or (call == "np.load" and "allow_pickle=False" not in text):
                    unsafe.append(f"{name_of(path)}:{node.lineno} {text}")
    assert unsafe == []


def forked(tree: ast.Module) -> set[ast.AST]:
    """Return every node inside ``with torch.random.fork_rng(...)``."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.With)]
    forks = [block for block in blocks if "fork_rng" in ast.unparse(block.items[0])]
    return {node for block in forks for node in ast.walk(block)}


def test_global_random_state_is_seeded_only_in_a_fork():
    seeded = ("torch.manual_seed", "np.random.seed", "random.seed", "torch.cuda.manual_seed")
    found = []
    for path in SOURCES:
        tree = parse(path)
        inside = forked(tree)
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        found += [
            f"{name_of(path)}:{node.lineno} {called_name(node)}"
            for node in calls
            if called_name(node) in seeded and node not in inside
        ]
    assert found == []


def test_nothing_is_left_for_later():
    words = re.compile(r"TO[D]O|FIX[M]E|X[X]X")
    found = [
        f"{name_of(path)}:{number}"
        for path in [*SOURCES, *TESTS]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if words.search(line)
    ]
    assert found == []


def test_one_label_or_several_is_decided_by_the_task_alone():
    words = re.compile(r"(single|multi)_label")
    found = {name_of(path) for path in SOURCES if words.search(path.read_text(encoding="utf-8"))}
    assert found == NAME_A_TASK


def test_tests_mirror_modules():
    modules = {name_of(path).removeprefix("xmoe/").removesuffix(".py") for path in SOURCES}
    packages = {name.removesuffix("/__init__") for name in modules if name.endswith("/__init__")}
    orphans = []
    for path in TESTS:
        folder = path.parent.relative_to(ROOT / "tests").as_posix()
        if path.stem in CROSS_CUTTING or folder.split("/")[0] in BESIDE_THE_PACKAGE:
            continue
        subject = (Path(folder) / path.stem.removeprefix("test_")).as_posix()
        known = subject in modules or (folder in packages and subject == f"{folder}/{folder}")
        if not known:
            orphans.append(name_of(path))
    assert orphans == []


def test_every_module_has_its_tests():
    tested = {name_of(path).removeprefix("tests/").replace("test_", "") for path in TESTS}
    modules = {name_of(path).removeprefix("xmoe/") for path in SOURCES if path.parts[-1][0] != "_"}
    own = {name for name in modules if not name.startswith("xmoe_lite/")}
    assert {name.removesuffix(".py") for name in own - tested} == WITHOUT_TESTS


def test_files_that_start_a_ray_are_dealt_out_together():
    starts = re.compile(r"local_ra[y]|ray\.init\(|(?<!def )serving\(|chaos\.served\(")
    starting = [name_of(path) for path in TESTS if starts.search(path.read_text(encoding="utf-8"))]
    assert [name for name in starting if bundle_of(name) != "ray"] == []
    assert len(starting) > 10


def test_imports_go_one_way():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ray_and_web_frameworks_stay_at_the_edge():
    allowed = ("xmoe/jobs/", "xmoe/serve/", "xmoe/cli/")
    found = []
    for path in SOURCES:
        if name_of(path).startswith(allowed):
            continue
        for node in ast.walk(parse(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {name.split(".")[0] for name in names} & {"ray", "fastapi", "starlette"}:
                found.append(f"{name_of(path)}:{node.lineno}")
    assert found == []
