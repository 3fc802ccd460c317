"""Learning curves: what was recorded is drawn, and the kept epoch is marked."""

import pytest

from xmoe.pictures.learning import draw_learning_curves

HISTORY = [
    {"epoch": 1, "train_mixture": 2.0, "train_accuracy": 0.2, "val_loss": 1.5, "val_accuracy": 0.5},
    {"epoch": 2, "train_mixture": 1.0, "train_accuracy": 0.6, "val_loss": 0.7, "val_accuracy": 0.9},
    {"epoch": 3, "train_mixture": 0.8, "train_accuracy": 0.7, "val_loss": 0.9, "val_accuracy": 0.8},
]


def curve(axes, label):
    line = next(line for line in axes.lines if line.get_label() == label)
    return list(line.get_ydata())


def test_each_curve_holds_the_recorded_figures(cut_off):
    figure = draw_learning_curves(HISTORY)
    loss, accuracy = figure.axes
    assert curve(loss, "training, augmented") == [2.0, 1.0, 0.8]
    assert curve(loss, "validation") == [1.5, 0.7, 0.9]
    assert curve(accuracy, "validation") == [0.5, 0.9, 0.8]
    assert loss.get_ylabel() == "Loss (nats)"
    assert cut_off(figure) < 0.02


def test_the_kept_epoch_is_marked_and_named():
    figure = draw_learning_curves(HISTORY)
    assert curve(figure.axes[0], "kept") == [0, 1]
    title = figure.get_suptitle()
    assert title == "Kept: epoch 2 of 3, validation loss 0.700, 90.0% right on validation"


def test_the_epoch_that_says_kept_is_kept_and_gaps_are_bridged():
    gap = {"epoch": 4, "train_mixture": 0.7, "train_accuracy": 0.8}
    last = {**HISTORY[2], "epoch": 5, "kept": True}
    figure = draw_learning_curves([*HISTORY, gap, last])
    assert figure.get_suptitle().startswith("Kept: epoch 5 of 5, validation loss 0.900")
    assert curve(figure.axes[0], "validation") == [1.5, 0.7, 0.9, 0.9]


def test_one_epoch_without_validation_is_drawn(cut_off):
    figure = draw_learning_curves([{"epoch": 1, "train_loss": 3.0, "val_loss": None}])
    assert figure.get_suptitle() == "1 epochs, no validation"
    assert curve(figure.axes[0], "training, augmented") == [3.0]
    assert cut_off(figure) < 0.02


def test_no_epoch_is_refused():
    with pytest.raises(ValueError, match="no epochs"):
        draw_learning_curves([])
