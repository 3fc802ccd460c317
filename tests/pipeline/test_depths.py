"""What any choice of experts would have scored, against asking just those experts."""

import numpy as np
import pytest
import torch

from xmoe.audio.dataset import load_dataset
from xmoe.features.segments import eval_segments
from xmoe.metrics import compute_metrics
from xmoe.pipeline.depths import DepthJudge, ask_everyone, held_rights
from xmoe.pipeline.fit import build_stores
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.promises import read_table


@pytest.fixture(scope="module")
def predictor(closed_run):
    return Predictor.load(closed_run)


@pytest.fixture(scope="module")
def store(predictor, scenes, tmp_path_factory):
    where = tmp_path_factory.mktemp("stores")
    dataset, spectro = load_dataset(scenes), predictor.config.spectro
    return build_stores(where, dataset, spectro, ["test"], with_sound=True)["test"]


@pytest.fixture(scope="module")
def held(closed_run, predictor):
    path = RunFolder(closed_run).mixture_file(RunFile.HELD_OUT)
    return read_table(path, predictor.config.model.expert_names, predictor.task)


@pytest.fixture(scope="module")
def judge(predictor, store, held):
    return DepthJudge(predictor, ask_everyone(predictor, store), held)


def score(predictor, store, **asked):
    """Return the accuracy of a predictor that is asked about each clip of a store."""
    p = []
    for index in range(len(store)):
        segments = eval_segments(store, predictor.frontend, [index])
        answers = predictor.answer_segments(segments.spec, segments.sound, **asked)
        p.append(predictor.probabilities(answers.logits))
    scores = compute_metrics(np.stack(p), store.targets, task=predictor.task, num_bootstrap=0)
    return scores["accuracy"]


def with_routing(predictor, **changes):
    routing = predictor.config.routing.model_copy(update=changes)
    config = predictor.config.model_copy(update={"routing": routing})
    return Predictor(config, predictor.model)


def test_a_fixed_number_scores_what_so_many_experts_score(predictor, store, judge):
    for k in range(len(judge.names) + 1):
        assert judge.at(k) == pytest.approx(score(predictor, store, k=k))


def test_dead_experts_score_what_the_others_score(predictor, store, judge):
    rights = []
    for gone in judge.names:
        left = {name: caller for name, caller in predictor.experts.items() if name != gone}
        alive = Predictor(predictor.config, predictor.model, experts=left)
        rights.append(score(alive, store, k=len(judge.names)))
    assert judge.dead(1) == {
        "mean": pytest.approx(np.mean(rights)),
        "worst": pytest.approx(min(rights)),
    }


@pytest.mark.parametrize("price", [0.0, 1e-3, 1e-2, 1e-1])
def test_a_price_asks_whom_the_run_would_ask_in_its_two_rounds(predictor, store, judge, price):
    priced, asked = with_routing(predictor, k_price=price), []
    for index in range(len(store)):
        segments = eval_segments(store, predictor.frontend, [index])
        asked += priced.answer_segments(segments.spec, segments.sound).k.tolist()
    assert judge.count_at(price).tolist() == asked
    assert float(judge.right_of(judge.count_at(price)).mean()) == pytest.approx(
        score(priced, store)
    )


def test_the_curve_gets_dearer_as_the_price_falls(judge):
    points = judge.curve()
    costs = [point["mean_ms"] for point in sorted(points, key=lambda point: -point["price"])]
    assert costs[0] == pytest.approx(judge.routing.glance_ms, abs=1e-3)
    assert costs[-1] == max(costs)
    assert all(0.0 <= point["accuracy"] <= 1.0 for point in points)


def test_every_expert_alone_is_told(judge):
    alone, truth = judge.describe()["alone"], judge.answers.truth.argmax(1)
    for index, name in enumerate(judge.names):
        clips = [
            judge.answers.experts[index][judge.answers.clip == clip].mean(0).argmax()
            for clip in range(len(truth))
        ]
        right = float((torch.stack(clips) == truth).double().mean())
        assert alone[name] == pytest.approx(right)


def test_a_share_of_the_cost_is_beside_what_chance_buys(judge):
    found = judge.at_share(0.5)
    whole = judge.routing.glance_ms + float(judge.costs[-1])
    assert found["ms"] == pytest.approx(0.5 * whole)
    assert 0.0 <= found["blind"] <= found["hindsight"]
    assert found["hindsight"] <= max(judge.at(k) for k in range(len(judge.names) + 1))


def test_chance_mixes_what_held_out_clips_liked_best(judge, monkeypatch):
    costs = judge.routing.glance_ms + judge.costs.numpy()
    share = float(costs[1] / costs[-1])
    for liked in (0, 1):
        monkeypatch.setattr(judge, "held_rights", np.eye(len(costs))[liked])
        assert judge.at_share(share)["blind"] == pytest.approx(judge.at(liked))


def test_by_lot_all_experts_are_asked_for_the_share_of_clips_that_can_be_paid(judge):
    glance, every = judge.routing.glance_ms, float(judge.costs[-1])
    for clips in (0.0, 0.25, 1.0):
        found = judge.at_share((glance + clips * every) / (glance + every))
        expected = (1.0 - clips) * judge.at(0) + clips * judge.at(len(judge.names))
        assert found["random"] == pytest.approx(expected)
    assert judge.at_share(0.0)["random"] == pytest.approx(judge.at(0))


def test_held_out_rightness_is_that_of_the_mixture_at_each_depth(judge, held):
    shares = judge.router.shares
    rights = held_rights(held, shares)
    for k in range(len(judge.names) + 1):
        own = shares[k, : k + 1] / shares[k, : k + 1].sum()
        mixed = sum(float(own[n]) * held.logits[n, 0] for n in range(k + 1))
        right = (mixed.argmax(1) == held.rows.argmax(1)).mean()
        assert rights[k] == pytest.approx(right)
