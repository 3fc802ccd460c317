"""What every test may use: seeded generators, and the real recordings where there are any."""

import json
import logging
import os
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MPLBACKEND", "agg")


# What several workers run is dealt out file by file, but for these: files that start a Ray, of
# which two at once would starve each other, and files that share a fixture of many seconds.
BUNDLES = {
    "ray": (
        "tests/jobs/",
        "tests/deployments/",
        "tests/benchmarks/test_serving.py",
        "tests/serve/test_autoscaling.py",
        "tests/serve/test_faults.py",
        "tests/serve/start/",
        "tests/serve/http/test_stream.py",
        "tests/test_golden.py",
    ),
    "fitted": ("tests/pipeline/",),
    "explained": ("tests/explain/",),
}
MOST_WORKERS = 4  # each takes more than a GB


def bundle_of(nodeid: str) -> str:
    """Return with what a test goes to the same worker."""
    file = nodeid.partition("::")[0]
    return next((name for name, paths in BUNDLES.items() if file.startswith(paths)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers ``-n auto`` starts."""
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return what deals the tests out: whole bundles, in the order of collection."""
    from xdist.scheduler import LoadScopeScheduling

    class InBundles(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return bundle_of(nodeid)

    config.option.loadscopereorder = False
    return InBundles(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the bundles first, which take longest, and skip GPU tests where there is no GPU.

    torch is asked only if a test that needs a GPU was collected.
    """
    ranks = {name: rank for rank, name in enumerate(BUNDLES)}
    items.sort(key=lambda item: ranks.get(bundle_of(item.nodeid), len(ranks)))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a seeded numpy generator."""
    return np.random.default_rng(0)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn into pictures, which takes longer than most else, where nobody looks."""
    import matplotlib.figure

    def save(figure: Any, target: Any, **_: Any) -> None:
        target.write(b"\x89PNG")

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", save)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return the function that mounts a disk of so many KiB and returns its path.

    Skips where nothing may be mounted. Called again with ``read_only=True`` it lets nothing more be
    written to that disk.
    """
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(size_kib: int = 0, *, read_only: bool = False) -> Path:
        options = ["remount,ro"] if read_only else [f"size={size_kib}k"]
        command = ["mount", "-t", "tmpfs", "-o", *options, "tmpfs", str(disk)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            pytest.skip(f"no small disk can be mounted here: {error}")
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
        return disk

    yield mount
    if disk.is_mount():
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data sets that XMOE_DATA names; skips where there is none."""
    root = Path(os.environ.get("XMOE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("no real recordings here: XMOE_DATA names no folder")
    return root


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder of two classes and four experts with random weights."""
    from tests.fixtures.runs import write_run

    return write_run(tmp_path_factory.mktemp("run") / "tiny")


@pytest.fixture(scope="session")
def bad_files(real_data: Path) -> Path:
    """Return the folder of damaged recordings beside the real ones; skips where there is none."""
    root = real_data.parent / "badfiles"
    if not root.is_dir():
        pytest.skip("no damaged recordings beside the real ones")
    return root


class ObjectStore:
    """An S3 server in this process.

    ``refuse`` decides by method and path what it denies, ``cut`` which bodies end half-way.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.refuse: Callable[[str, str], bool] = lambda method, path: False
        self.cut: Callable[[str, str], bool] = lambda method, path: False
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if self.cut(method, path):
            body = b"".join(self._moto(environ, start_response))
            return [body[: len(body) // 2]]
        if not self.refuse(method, path):
            return self._moto(environ, start_response)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"].read(length)
        start_response("403 Forbidden", [("Content-Type", "application/xml")])
        return [b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """Return an S3 server of this process; pyarrow finds it by the environment."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = ObjectStore()
    settings = {
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield store
    store.stop()


@pytest.fixture
def bucket(
    object_store: ObjectStore,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """Return the address of a new bucket, with a new cache; nothing is refused after the test."""
    import urllib.request

    name = f"bucket-{zlib.crc32(request.node.nodeid.encode()):08x}"
    ask = urllib.request.Request(f"{object_store.endpoint}/{name}", method="PUT")
    urllib.request.urlopen(ask).close()
    monkeypatch.setenv("XMOE_CACHE", str(tmp_path / "cache of stores"))
    yield f"s3://{name}"
    object_store.refuse = object_store.cut = lambda method, path: False


@pytest.fixture
def google_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a stand-in for Google Cloud Storage; pyarrow finds it by the environment."""
    from tests.fixtures.gcs import GoogleStore

    store = GoogleStore()
    keys = tmp_path / "keys.json"
    fields = ("type", "client_id", "client_secret", "refresh_token")
    known = dict.fromkeys(fields, "x") | {"type": "authorized_user"}
    keys.write_text(json.dumps(known | {"token_uri": f"http://{store.endpoint}/token"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(keys))
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://{store.endpoint}")
    monkeypatch.setenv("XMOE_CACHE", str(tmp_path / "cache of stores"))
    yield store
    store.stop()
