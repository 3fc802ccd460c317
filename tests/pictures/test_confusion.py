"""The confusion picture shows the counts it was given and says the worst of them."""

import numpy as np
import pytest

from xmoe.pictures.confusion import draw_confusion
from xmoe.pictures.style import to_png

COUNTS = [[8, 2, 0], [0, 5, 0], [1, 0, 4]]
CLASSES = ["click_train", "noise_band", "chirp_up"]


def numbers_in(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_cells_hold_counts_and_colours_hold_shares():
    figure = draw_confusion(COUNTS, CLASSES)
    assert numbers_in(figure) == ["8", "2", "5", "1", "4"]
    shares = np.asarray(figure.axes[0].images[0].get_array())
    assert shares == pytest.approx(np.array([[0.8, 0.2, 0], [0, 1, 0], [0.2, 0, 0.8]]))


def test_truth_is_the_row_and_the_title_says_the_worst():
    figure = draw_confusion(COUNTS, CLASSES)
    axes = figure.axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("Truth", "Answer")
    assert [label.get_text() for label in axes.get_yticklabels()] == CLASSES
    title = figure.get_suptitle()
    assert title.startswith("17 of 20 right (85.0%)")
    assert "click_train taken for noise_band, 2 times" in title


def test_no_mistake_is_said_too():
    assert (
        "no class taken for another" in draw_confusion([[3, 0], [0, 0]], ["a", "b"]).get_suptitle()
    )


@pytest.mark.parametrize("num_classes", [2, 10, 50])
def test_no_word_is_cut_off(num_classes, cut_off):
    classes = [f"a fairly long class name {index}" for index in range(num_classes)]
    figure = draw_confusion(np.eye(num_classes, dtype=int) * 4, classes)
    assert cut_off(figure) < 0.02


def test_fifty_classes_stay_without_numbers():
    figure = draw_confusion(np.ones((50, 50), int), [str(i) for i in range(50)])
    assert numbers_in(figure) == []


def test_several_labels_are_drawn_as_bars(cut_off):
    figure = draw_confusion([[[5, 1], [2, 3]], [[7, 0], [0, 4]]], ["whale", "ship"])
    widths = [[bar.get_width() for bar in bars] for bars in figure.axes[0].containers]
    assert widths == [[3, 4], [2, 0], [-1, 0]]
    assert figure.get_suptitle() == "77.8% of the true labels found, 1 claimed falsely"
    assert cut_off(figure) < 0.02
    assert to_png(figure)[:4] == b"\x89PNG"


def test_counts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 classes"):
        draw_confusion([[1, 0], [0, 1]], CLASSES)
