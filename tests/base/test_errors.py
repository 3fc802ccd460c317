"""Errors: the drawn tree is the class tree, and every error survives print, JSON and pickle."""

import copy
import inspect
import pickle
import re

import pytest

from xmoe.base import errors
from xmoe.base.errors import AudioError, ConfigError, InputError, StorageError, XmoeError

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, XmoeError)
}


def make(kind: type[XmoeError]) -> XmoeError:
    fields = {"where": "a/b.wav", "mend": "record it again"}
    if kind is AudioError:
        return AudioError("truncated", "it ends early", **fields)
    return kind("it ends early", **fields)


def drawn_tree() -> dict[str, str]:
    """Return each drawn class with its parent, read from the module's docstring."""
    tree: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([ |`-]*)(\w+Error)\b", line):
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            tree[found[2]] = path[depth - 1] if depth else "Exception"
    return tree


def test_the_drawn_tree_is_the_class_tree():
    assert drawn_tree() == {name: kind.__bases__[0].__name__ for name, kind in CLASSES.items()}


def test_there_is_one_root_and_input_errors_are_a_branch():
    roots = [kind for kind in CLASSES.values() if kind.__bases__ == (Exception,)]
    assert roots == [XmoeError]
    assert issubclass(ConfigError, InputError)
    assert not issubclass(StorageError, InputError)


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_errors_come_back_whole_from_another_process(kind, protocol):
    error = make(kind)
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is kind
    assert vars(back) == vars(error)
    assert str(back) == str(error)


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_errors_can_be_copied(kind):
    assert vars(copy.deepcopy(make(kind))) == vars(make(kind))


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_errors_are_plain_fields_in_json(kind):
    assert make(kind).as_dict() == {
        "error": kind.__name__,
        "what": "it ends early",
        "where": "a/b.wav",
        "mend": "record it again",
    }


@pytest.mark.parametrize(
    ("where", "mend", "text"),
    [
        (None, None, "no such file"),
        ("x.csv", None, "x.csv: no such file"),
        (None, "name another", "no such file (name another)"),
        ("x.csv", "name another", "x.csv: no such file (name another)"),
    ],
)
def test_text_says_where_what_and_how_to_mend(where, mend, text):
    assert str(InputError("no such file", where=where, mend=mend)) == text


def test_an_audio_error_says_which_way_a_recording_failed():
    error = AudioError("bad_rate", "the rate is 3 Hz", where="x.wav")
    assert error.code == "bad_rate"
    assert f"``{error.code}``" in (AudioError.__doc__ or "")
