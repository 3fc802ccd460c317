"""The public surface is frozen: a name more or less is a decision, not an accident."""

import inspect
import subprocess
import sys

import pytest

import xmoe
from xmoe.cli import cli

NAMES = {
    "AudioError",
    "Client",
    "ConfigError",
    "DatasetError",
    "InputError",
    "MoEAudioClassifier",
    "RunFolderError",
    "StorageError",
    "XmoeError",
    "__version__",
    "load_dataset",
    "profile_dataset",
}
COMMANDS = {
    "annotations",
    "backbone",
    "calibrate",
    "demo",
    "deploy",
    "eval",
    "expert",
    "explain",
    "export",
    "infer",
    "plan",
    "profile",
    "promote",
    "report",
    "rollback",
    "serve",
    "size",
    "submit",
    "suggest",
    "synth",
    "train",
    "update",
    "versions",
}


def test_public_names():
    assert set(xmoe.__all__) == NAMES
    assert set(dir(xmoe)) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_loads(name):
    assert getattr(xmoe, name) is not None


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = xmoe.no_such_name


def test_import_is_cheap():
    code = "import sys, xmoe; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_need_no_torch():
    code = "import sys, xmoe.base.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_commands():
    assert set(cli.commands) == COMMANDS


def test_every_error_has_one_root():
    errors = [getattr(xmoe, name) for name in NAMES if name.endswith("Error")]
    assert all(inspect.isclass(error) and issubclass(error, xmoe.XmoeError) for error in errors)
