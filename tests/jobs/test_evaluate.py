"""Figures from Ray are those of one process, digit for digit, wherever run and recordings lie."""

import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from tests.fixtures.runs import RATE_HZ, make_sound
from tests.fixtures.stores import upload
from xmoe.audio.dataset import Dataset, Example, load_dataset
from xmoe.base.errors import RunFolderError, XmoeError
from xmoe.jobs import evaluate as jobs
from xmoe.jobs import session
from xmoe.pipeline.classifier import MoEAudioClassifier
from xmoe.pipeline.evaluation import answer_here
from xmoe.predict.predictor import Predictor

# Ray warns of its own settings, and leaves files and sockets to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty test clips of 0.3 to 0.9 s, the sixth and the last of which cannot be read."""
    root = tmp_path_factory.mktemp("set")
    rows = ["filepath,split,label,group"]
    for index in range(30):
        name = f"{index:02d}.wav"
        sf.write(root / name, make_sound(0.3 + 0.02 * index, seed=index), RATE_HZ)
        rows.append(f"{name},test,{('click', 'tone')[index % 2]},{index // 2}")
    (root / "05.wav").write_bytes(b"nonsense" * 20)
    (root / "29.wav").unlink()
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def predictor(tiny_run):
    return Predictor.load(tiny_run)


def assert_same(one, other):
    for name, column in vars(one).items():
        assert np.array_equal(column, getattr(other, name)), name


def test_answers_survive_the_journey(predictor, folder):
    data = load_dataset(folder)
    answered, _ = answer_here(predictor, data, data.examples[:4])
    assert_same(jobs.from_bytes(jobs.to_bytes(answered)), answered)
    assert answered.fixed.shape == (4, predictor.config.model.k_max + 1, 2)


@pytest.mark.parametrize("is_far", [False, True], ids=["folder", "store"])
def test_ray_gives_the_figures_of_one_process(
    tiny_run, folder, bucket, local_ray, monkeypatch, is_far, tmp_path, undrawn
):
    monkeypatch.setattr(jobs, "BLOCK_CLIPS", 7)
    run = upload(tiny_run, f"{bucket}/run") if is_far else str(tiny_run)
    place = upload(folder, f"{bucket}/set") if is_far else folder
    steps = []
    far = MoEAudioClassifier.load(run).evaluate(
        place,
        out_dir=tmp_path / "far",
        answerer=jobs.choose_answerer(run, engine="ray", workers=2),
        progress=lambda *step: steps.append(step),
    )
    here = MoEAudioClassifier.load(tiny_run).evaluate(folder, out_dir=tmp_path / "here")
    assert far == here
    assert (here["num_clips"], here["num_quarantined"]) == (28, 2)
    for name in ("metrics.json", "traces.parquet", "expert_usage.json"):
        assert (tmp_path / "far" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert ("evaluate", 30, 30) in steps


def test_a_node_without_the_files_fetches_those_of_its_blocks(
    tiny_run, folder, bucket, monkeypatch, predictor, tmp_path
):
    run, data = upload(tiny_run, f"{bucket}/run"), load_dataset(upload(folder, f"{bucket}/set"))
    monkeypatch.setenv("XMOE_CACHE", str(tmp_path / "another node"))
    monkeypatch.setattr(session, "node_here", lambda: "this node")
    examples = data.examples[4:8]
    actor = jobs.AnswerActor(run, "cpu", replace(data, examples=()), "another")
    found = jobs.read_outcomes(actor(jobs.number_block(4, examples)))
    answered, bad = found[4]
    expected, _ = answer_here(predictor, load_dataset(folder), examples)
    assert_same(answered, expected)
    assert [row.filepath for row in bad] == ["05.wav"]
    fetched = sorted(path.name for path in (tmp_path / "another node").rglob("*.wav"))
    assert fetched == ["04.wav", "05.wav", "06.wav", "07.wav"]


def test_block_of_bad_files_and_an_error_of_an_actor(tiny_run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "node_here", lambda: "home")
    data = load_dataset(folder)
    block = jobs.number_block(5, data.examples[5:6])
    actor = jobs.AnswerActor(str(tiny_run), "cpu", replace(data, examples=()), "home")
    ((answered, bad),) = jobs.read_outcomes(actor(block)).values()
    assert (answered, [row.code for row in bad]) == (None, ["not_audio"])
    lost = jobs.AnswerActor(str(tmp_path / "none"), "cpu", replace(data, examples=()), "home")
    with pytest.raises(RunFolderError, match="no such file"):
        jobs.read_outcomes(lost(block))


def test_set_of_bad_files_has_no_answers(tiny_run, tmp_path, local_ray):
    bad = Dataset(tmp_path, (Example("gone.wav", "test", ("tone",)),), ("tone",), "single_label")
    job = {"run": str(tiny_run), "device": "cpu", "dataset": bad}
    answered, rows = jobs.answer_on_ray(job, bad.examples, workers=1, progress=lambda *step: None)
    assert (answered, [row.code for row in rows]) == (None, ["missing"])


def test_what_fails_on_ray_says_what_to_do(tiny_run, folder, local_ray, monkeypatch):
    data = load_dataset(folder)

    class Broken(jobs.AnswerActor):
        def __call__(self, table):
            raise ValueError("broken")

    monkeypatch.setattr(jobs, "AnswerActor", Broken)
    job = {"run": str(tiny_run), "device": "cpu", "dataset": replace(data, examples=())}
    with pytest.raises(XmoeError, match="failed on Ray") as caught:
        jobs.answer_on_ray(job, data.examples[:3], workers=1, progress=lambda *step: None)
    assert "--engine loop" in (caught.value.mend or "")


def test_what_failed_before_leaves_its_processors_to_the_next(local_ray):
    # Of the test above, whose log, kept by pytest to its end, holds Ray's executor. Its thread may
    # take long to end on a busy machine; a session that begins after that finds them free.
    import ray

    def are_free():
        with session.ray_session():
            return ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]

    while not are_free():
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("engine", "most", "expected"),
    [("auto", 30, "loop"), ("auto", 29, "ray"), ("loop", 0, "loop"), ("ray", 30, "ray")],
)
def test_engine_is_chosen_by_number_or_forced(
    predictor, folder, monkeypatch, engine, most, expected
):
    monkeypatch.setattr(jobs, "LOOP_MAX_CLIPS", most)
    monkeypatch.setattr(jobs, "answer_here", lambda *a, **k: "loop")
    monkeypatch.setattr(jobs, "answer_on_ray", lambda *a, **k: "ray")
    data = load_dataset(folder)
    answer = jobs.choose_answerer("run", engine=engine)
    assert answer(predictor, data, data.examples, progress=lambda *step: None) == expected
