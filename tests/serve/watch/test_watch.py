"""Recordings are measured beside their answers: warnings, drift over HTTP, a bounded share."""

import pytest

from tests.fixtures.runs import write_run
from xmoe.profile.profile import write_clip_table
from xmoe.serve.settings import DriftSettings
from xmoe.serve.telemetry.meter import Meter
from xmoe.serve.watch.about import NOTHING_KNOWN, About
from xmoe.serve.watch.incoming import measure_incoming
from xmoe.serve.watch.reference import Reference
from xmoe.serve.watch.watch import REPORT_EVERY, Watch

OFTEN = {"max_per_second": 1e6, "at_least": 20}


class Taken(Meter):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__()
        self.qualities, self.scores = [], []

    def note_quality(self, quality):
        self.qualities.append(quality)

    def note_drift(self, psi):
        self.scores.append(psi)


@pytest.fixture(scope="module")
def known_run(tmp_path_factory, clip_rows):
    path = write_run(tmp_path_factory.mktemp("known") / "tiny")
    write_clip_table(path / "clips.parquet", clip_rows(100))
    return path


def test_answers_outside_of_training_say_so_and_add_up_to_drift(
    ask_app, serve_run, known_run, wav, sound
):
    async def script(send):
        before = (await send("GET", "/v1/drift")).json()
        replies = [
            (await send("POST", "/v1/classify", body=wav(sound(seed=seed % 7) * 0.01))).json()
            for seed in range(25)
        ]
        return before, replies, (await send("GET", "/v1/drift")).json()

    before, replies, after = ask_app(serve_run(run=known_run, drift=OFTEN), script)
    assert (before["watching"], before["verdict"], before["recordings"]) == (True, "waiting", 0)
    for reply in replies:
        assert [doubt for doubt in reply["warnings"] if doubt.startswith("level: ")]
    assert (after["verdict"], after["recordings"]) == ("drifted", 25)
    features = {one["name"]: one for one in after["features"]}
    assert features["rms_db"]["verdict"] == "drifted"
    assert features["sample_rate_hz"]["incoming"] == [25, 0]
    assert len(features["rms_db"]["bins"]) == len(features["rms_db"]["training"])
    assert 0.0 < after["mean_quality"] < 1.0


def test_without_a_table_of_clips_it_says_so(ask):
    answer = ask("GET", "/v1/drift").json()
    assert (answer["watching"], answer["verdict"], answer["features"]) == (False, "waiting", [])
    assert "clips.parquet" in answer["reason"]


def test_nothing_is_measured_without_a_reference():
    watch = Watch(NOTHING_KNOWN, DriftSettings(), Meter())
    assert not watch.has_time()


def test_only_so_many_in_a_second_are_measured(clip_rows):
    about = About(reference=Reference.of(clip_rows(20), ("click", "tone")))
    watch = Watch(about, DriftSettings(max_per_second=0.01), Meter())
    assert [watch.has_time() for _ in range(3)] == [True, False, False]


def test_meter_takes_qualities_and_scores(clip_rows, sound):
    about = About(reference=Reference.of(clip_rows(20), ("click", "tone")))
    meter = Taken()
    watch = Watch(about, DriftSettings(), meter)
    for seed in range(REPORT_EVERY):
        watch.note(measure_incoming(sound(seed=seed), 8000, 0.0), "tone")
    assert len(meter.qualities) == REPORT_EVERY
    assert len(meter.scores) == 1
    assert set(meter.scores[0]) >= {"quality", "rms_db", "label"}
