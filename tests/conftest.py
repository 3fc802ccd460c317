"""What every test may use: seeded generators, and the real recordings where there are any."""

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MPLBACKEND", "agg")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests where there is no GPU; torch is asked only if such a test was collected."""
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


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data sets that XMOE_DATA names; skips where there is none."""
    root = Path(os.environ.get("XMOE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("no real recordings here: XMOE_DATA names no folder")
    return root


@pytest.fixture(scope="session")
def bad_files(real_data: Path) -> Path:
    """Return the folder of damaged recordings beside the real ones; skips where there is none."""
    root = real_data.parent / "badfiles"
    if not root.is_dir():
        pytest.skip("no damaged recordings beside the real ones")
    return root
