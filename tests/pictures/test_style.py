"""Figures without global state, and PNG bytes that depend on the figure alone."""

import subprocess
import sys

from xmoe.pictures.style import new_figure, shorten, to_png


def small_picture():
    figure = new_figure(2, 1, "three points")
    figure.add_subplot().plot([0, 1, 2], [3, 1, 2])
    return figure


def test_the_same_figure_gives_the_same_png():
    first, second = to_png(small_picture()), to_png(small_picture())
    assert first == second
    assert first[:8] == b"\x89PNG\r\n\x1a\n"


def test_size_is_inches_times_dpi():
    data = to_png(small_picture(), dpi=100)
    assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == (200, 100)


def test_a_notebook_shows_a_figure():
    data = small_picture()._repr_png_()
    assert (data[:4], int.from_bytes(data[16:20])) == (b"\x89PNG", 160)


def test_long_labels_end_in_an_ellipsis():
    assert shorten("tone_doppler") == "tone_doppler"
    assert shorten("abcdefgh", 5) == "abcd…"


def test_pyplot_is_never_imported():
    code = "import sys, xmoe.pictures; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
