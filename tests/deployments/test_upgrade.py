"""A served run is replaced by another and back under load: no request lost, no answer mixed."""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

import pytest
import yaml

from tests.fixtures.runs import make_sound, to_wav, write_run
from xmoe.predict.predictor import Predictor

RATE_HZ = 8000
SETTLED_S = 10.0
# Generous: replicas that start take the processors of those that answer.
FAULTS = {"deadline_ms": 10_000.0}
# Clients, the pause of each after an answer, the time from one request to the next whatever the
# answer takes, and whether replicas start in turns.
LOADS = {"busy": (4, 0.05, 0.0, False), "five a second": (5, 0.0, 1.0, True)}


@dataclass
class Load:
    """Clients that each keep a connection, and every answer: (sound, status, answer)."""

    port: int
    bodies: list[bytes]
    clients: int
    pause_s: float
    period_s: float
    answers: list[tuple[int, object, dict]] = field(default_factory=list)
    sent: int = 0

    def __enter__(self):
        self._stop = threading.Event()
        began, apart_s = time.monotonic(), self.period_s / self.clients
        self._threads = [
            threading.Thread(target=self._ask_on, args=(began + client * apart_s,))
            for client in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self, due):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            sound = self.sent % len(self.bodies)
            self.sent += 1
            self.answers.append((sound, *ask(connection, self.bodies[sound])))
            due = max(due + self.period_s, time.monotonic() + self.pause_s)
        connection.close()

    def newest(self):
        """Return the weights that the last answers of all clients came from."""
        return {answer.get("weights_sha256") for _, _, answer in self.answers[-4 * self.clients :]}


def ask(connection, body):
    """Return the status of one request, or the name of what went wrong, and the answer."""
    try:
        connection.request("POST", "/v1/classify?k_max=2", body)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    except (OSError, HTTPException) as error:
        connection.close()
        return type(error).__name__, {}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("load", LOADS)
def test_upgrade_and_roll_back_lose_no_request_and_mix_no_answer(
    load, cluster, tmp_path, patiently, reply_of
):
    clients, pause_s, period_s, gently = LOADS[load]
    runs = [write_run(tmp_path / f"run-{seed}", seed=seed) for seed in range(2)]
    sounds = [make_sound(seed=seed) for seed in range(6)]
    file = tmp_path / "cpu.yaml"

    def deploy(run):
        cluster.deploy(
            "cpu.yaml", file, run, faults=FAULTS, expert={"num_cpus": 0.1}, gently=gently
        )
        patiently(cluster.application)
        return json.loads(patiently(lambda: reply_of(f"{cluster.url}/v1/model")))

    first = deploy(runs[0])["weights_sha256"]
    patiently(lambda: reply_of(f"{cluster.url}/readyz"))
    bodies = [to_wav(sound) for sound in sounds]
    with Load(cluster.port, bodies, clients, pause_s, period_s) as load:
        time.sleep(5.0)
        marks = [len(load.answers)]
        for run in (runs[1], runs[0]):
            before = load.newest()
            deploy(run)
            patiently(lambda seen=before: len(load.newest()) == 1 and load.newest() != seen)
            patiently(cluster.application)
            time.sleep(SETTLED_S)
            marks.append(len(load.answers))
    told = {
        "sent": load.sent,
        "marks": marks,
        "statuses": Counter(str(status) for _, status, _ in load.answers),
        "degraded": sum(bool(answer.get("degraded")) for _, _, answer in load.answers),
    }
    print(json.dumps(told))
    assert load.sent == len(load.answers)
    assert {status for _, status, _ in load.answers} == {200}
    shas = [answer["weights_sha256"] for _, _, answer in load.answers]
    assert shas[0] == shas[-1] == first
    (second,) = set(shas) - {first}
    assert set(shas[marks[1] - 20 : marks[1]]) == {second}
    check_unmixed(load.answers, dict(zip((first, second), runs, strict=True)), sounds)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_upgrade_to_a_run_of_another_version_is_refused_and_the_old_run_goes_on(
    cluster, tmp_path, patiently, reply_of
):
    run, file = write_run(tmp_path / "run"), tmp_path / "local.yaml"
    cluster.deploy("local.yaml", file, run)
    patiently(cluster.application)
    model = patiently(lambda: reply_of(f"{cluster.url}/v1/model"))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run_config.json").write_text('{"schema_version": 1}')
    cluster.deploy("local.yaml", file, tmp_path / "old")

    def refused():
        app = yaml.safe_load(cluster.serve("status"))["applications"]["xmoe"]
        return app["message"] if app["status"] == "DEPLOY_FAILED" else None

    message = patiently(refused)
    assert "the run is of version 1;" in message
    assert "train again: xmoe train" in message
    assert reply_of(f"{cluster.url}/v1/model") == model


def check_unmixed(answers, runs, sounds):
    """Assert that every whole answer is the one that its run gives in one process."""
    expected = {}
    for sha, run in runs.items():
        predictor = Predictor.load(run)
        for index, sound in enumerate(sounds):
            predicted = predictor.predict(sound, RATE_HZ, k_max=2).probabilities
            expected[sha, index] = pytest.approx(predicted, abs=1e-4)
    whole = [(index, answer) for index, _, answer in answers if not answer["degraded"]]
    assert len(whole) >= 0.99 * len(answers)
    for index, answer in whole:
        assert answer["probabilities"] == expected[answer["weights_sha256"], index]
