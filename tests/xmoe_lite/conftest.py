"""Runs exported once for all tests, and recordings to ask about."""

import pytest

from tests.fixtures.closed_runs import write_backbone_run, write_closed_run
from xmoe.export.folder import export_run


@pytest.fixture(scope="session")
def closed(tmp_path_factory):
    """Return a run of three experts, and its folder for the reader."""
    root = tmp_path_factory.mktemp("closed")
    run = write_closed_run(root / "run")
    return run, export_run(run, root / "out").folder


@pytest.fixture(scope="session")
def asked(tmp_path_factory):
    """Return a run whose third expert asks a network that is silent on silence, and its folder."""
    root = tmp_path_factory.mktemp("asked")
    run = write_backbone_run(root / "run", fault="silence", k_price=-1.0)
    return run, export_run(run, root / "out").folder
