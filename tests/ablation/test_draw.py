"""The picture shows every arm and selector that it is given."""

from xmoe.ablation.draw import draw_study
from xmoe.pictures.style import to_png


def estimate(value):
    return {"value": value, "ci": [value - 0.02, value + 0.02], "by_seed": [value, value]}


def make_result():
    arms = ("saliency", "features", "blind_k", "where")
    return {
        "title": "tones",
        "seeds": [0, 1],
        "clips": {"test": 40},
        "curves": [
            {"arm": arm, "mean_k": k, **estimate(0.7 + 0.05 * k)} for arm in arms for k in (0, 1, 2)
        ],
        "equal_compute": [
            {"arm": a, "condition": "test", "target": "mean K 1", "difference": estimate(-0.01 * i)}
            for i, a in enumerate(arms)
        ],
        "windows": [
            {"selector": s, "fraction": f, "accuracy": estimate(0.6 + f / 4)}
            for s in ("saliency", "energy", "random")
            for f in (1 / 16, 1 / 8, 1 / 4, 1 / 2)
        ],
        "best_single_expert": estimate(0.95),
    }


def test_arms_and_selectors_are_in_the_picture():
    figure = draw_study(make_result())
    curves, arms, windows = figure.axes
    drawn = [text.get_text() for text in curves.get_legend().get_texts()]
    assert drawn == ["saliency", "features", "blind_k"]
    assert [t.get_text() for t in arms.get_yticklabels()] == ["where", "blind_k", "features"]
    assert len(windows.get_legend().get_texts()) == 3
    assert to_png(figure).startswith(b"\x89PNG")
