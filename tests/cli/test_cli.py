"""The command as a user meets it: help, version, and nothing heavy imported for either."""

import subprocess
import sys

import pytest

import xmoe
from xmoe.cli import cli, main

HEAVY = ("torch", "torchaudio", "ray", "numpy", "scipy", "pyarrow", "matplotlib", "rich")


def test_help_lists_commands_and_exit_codes(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0
    assert "130" in shown
    for name in cli.commands:
        assert name in shown


def list_commands():
    """Return the words of every command, those of groups with the group's before."""
    for name, one in sorted(cli.commands.items()):
        yield from (f"{name} {sub}" for sub in getattr(one, "commands", {}))
        if not hasattr(one, "commands"):
            yield name


@pytest.mark.parametrize("name", list(list_commands()))
def test_each_command_has_help_and_the_common_options(name, capsys):
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    shown = capsys.readouterr().out
    for option in ("--json", "--verbose", "--quiet"):
        assert option in shown


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert xmoe.__version__ in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from xmoe.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_searched_for_garbage_at_the_end():
    code = (
        "import atexit, gc\n"
        "from xmoe.cli import main\n"
        "atexit.register(lambda: print('frozen', gc.get_freeze_count()))\n"
        "main(['--version'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert int(done.stdout.split("frozen ")[1]) > 1000


def test_python_dash_m_is_the_same_command():
    command = [sys.executable, "-m", "xmoe", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert xmoe.__version__ in done.stdout
