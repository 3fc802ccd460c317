"""What the smoke test finds wrong with an answer; all of it on a cluster is in deployments/."""

import pytest

from xmoe.serve.start.cluster import Place
from xmoe.serve.start.stage import ServeStage, find_fault

WANTED = {"click": 0.25, "tone": 0.75}
ANSWER = {
    "weights_sha256": "a" * 64,
    "degraded": False,
    "missing_experts": [],
    "probabilities": {"click": 0.251, "tone": 0.749},
}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, None),
        ({"weights_sha256": "b" * 64}, "an answer came from other weights"),
        ({"degraded": True, "missing_experts": ["low"]}, "experts are missing: low"),
        (
            {"probabilities": {"click": 0.3, "tone": 0.7}},
            "an answer differs by 0.05 from the run's own",
        ),
    ],
)
def test_answer_is_that_of_the_run_itself(changed, told):
    assert find_fault(ANSWER | changed, "a" * 64, WANTED) == told


def test_candidate_has_a_name_of_its_own():
    stage = ServeStage(Place("auto", "birds"), within_s=1.0)
    assert (stage.app, stage.candidate) == ("birds", "birds-candidate")
