"""What tests of pictures share: no word may be cut off at the edge of the figure."""

from collections.abc import Callable

import pytest
from matplotlib.figure import Figure


def reaches_beyond_the_edge(figure: Figure) -> float:
    """Return by how many inches what is drawn reaches beyond the figure; 0 where all is inside."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return max(0.0, -box.x0, -box.y0, box.x1 - width, box.y1 - height)


@pytest.fixture
def cut_off() -> Callable[[Figure], float]:
    """Return the function that measures what is cut off, in inches."""
    return reaches_beyond_the_edge
