"""What people say of answers: a table that comes back as a manifest, and nothing else."""

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock

from tests.fixtures.runs import RATE_HZ, make_sound, to_wav
from xmoe.audio.clip import read_clip
from xmoe.audio.dataset import load_more
from xmoe.base.errors import InputError, StorageError
from xmoe.predict.samples import Sample
from xmoe.serve.guard.problems import HttpProblem
from xmoe.serve.guard.tokens import Allowance
from xmoe.serve.http import corrections as subject
from xmoe.serve.http.corrections import COLUMNS, Correction, Corrections, clean_name, folder_of
from xmoe.serve.settings import CorrectionSettings, ServeSettings
from xmoe.serve.watch.about import read_known

CLASSES = ("click", "tone")


def open_at(folder, *, several=False, known=frozenset(), **settings):
    asked = CorrectionSettings(folder=str(folder), **settings)
    checked = ServeSettings(run="run", corrections=asked)
    return Corrections(checked, CLASSES, several=several, known=lambda: known)


def say(corrections, label="tone", *, seed=0, by="", seconds=0.4, **fields):
    data = to_wav(make_sound(seconds, seed))
    labels = (label,) if isinstance(label, str) else label
    told = {"labels": labels, "answer": ("click",), "probability": 0.61234, "name": "a.wav"}
    return corrections.keep(data, read_clip(io.BytesIO(data)), Correction(**told | fields), by)


def rows(folder, table="corrections.csv"):
    with (folder / table).open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_correction_is_a_row(tmp_path):
    done = say(open_at(tmp_path), by="field-team", weights_sha256="ab" * 32)
    (row,) = rows(tmp_path)
    assert tuple(row) == COLUMNS
    clip = read_clip(io.BytesIO(to_wav(make_sound())))
    assert row.pop("when").endswith("+00:00")
    assert row == {
        "filepath": "a.wav",
        "start_s": "",
        "end_s": "",
        "label": "tone",
        "answer": "click",
        "probability": "0.6123",
        "split": "train",
        "name": "a.wav",
        "sound_sha256": clip.content_sha256,
        "by": "field-team",
        "weights_sha256": "ab" * 6,
    }
    assert (done.table, done.sound_kept) == ("corrections.csv", False)
    assert "not kept" in done.note
    assert {path.name for path in tmp_path.iterdir()} == {"corrections.csv", ".lock"}


def test_kept_sounds_come_back_as_a_data_set(tmp_path):
    corrections = open_at(tmp_path, keep_sounds=True)
    say(corrections, seed=0, name="../../etc/x.wav")
    say(corrections, "click", seed=1, seconds=1.0, start_s=0.2, end_s=0.6)
    more = load_more(tmp_path, tmp_path / "corrections.csv", "single_label")
    assert [one.labels for one in more.split("train")] == [("tone",), ("click",)]
    assert [(one.start_s, one.end_s) for one in more.examples] == [(0.0, None), (0.2, 0.6)]
    first, second = (read_clip(more.path(one)) for one in more.examples)
    assert first.samples.tolist() == make_sound(0.4, 0).tolist()
    assert len(second.samples) == RATE_HZ
    assert [row["name"] for row in rows(tmp_path)] == ["x.wav", "a.wav"]


def test_without_its_sound_a_row_is_found_by_name(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "+a.wav").write_bytes(to_wav(make_sound()))
    say(open_at(tmp_path / "said"), name="+a.wav")
    more = load_more(tmp_path / "deep", tmp_path / "said" / "corrections.csv", "single_label")
    assert more.path(more.examples[0]).is_file()


def test_the_last_word_on_a_part_stands(tmp_path):
    corrections = open_at(tmp_path)
    say(corrections, "tone", by="one")
    say(corrections, "tone", start_s=0.1, end_s=0.2)
    say(corrections, "click", by="two")
    assert [(row["label"], row["by"]) for row in rows(tmp_path)] == [("tone", ""), ("click", "two")]
    assert say(corrections, "frog").table == "new_labels.csv"
    assert [row["label"] for row in rows(tmp_path)] == ["tone"]
    assert [row["label"] for row in rows(tmp_path, "new_labels.csv")] == ["frog"]


def test_what_the_run_was_measured_on_is_not_learned(tmp_path):
    data = to_wav(make_sound())
    known = frozenset([read_clip(io.BytesIO(data)).content_sha256])
    say(open_at(tmp_path, known=known))
    say(open_at(tmp_path, known=known), seed=1)
    assert [row["split"] for row in rows(tmp_path)] == ["test", "train"]


def test_a_run_knows_its_clips_and_its_samples(tiny_run):
    assert read_known(str(tiny_run), [Sample(("tone",), b"", 1.0, "abc")]) == {"abc"}


def test_routers_write_one_after_the_other(tmp_path):
    def one(seed):
        say(open_at(tmp_path, keep_sounds=True), seed=seed)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(12)))
    assert len({row["sound_sha256"] for row in rows(tmp_path)}) == 12
    assert len(list((tmp_path / "sounds").iterdir())) == 12


def test_a_router_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(subject, "LOCK_S", 0.01)
    with FileLock(tmp_path / ".lock"), pytest.raises(HttpProblem) as refused:
        say(open_at(tmp_path))
    assert (refused.value.status, refused.value.retry_after_s) == (429, 1)


@pytest.mark.parametrize(
    "label",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\uff1dcmd",
        "a;b",
        "a\nb",
        "a\tb",
        'a"b',
        "../x",
        "nan",
        " a",
    ],
)
def test_new_labels_are_words(tmp_path, label):
    with pytest.raises(InputError, match="label"):
        say(open_at(tmp_path), label)
    assert not (tmp_path / "corrections.csv").exists()


def test_a_recording_has_one_label_unless_the_task_has_several(tmp_path):
    with pytest.raises(InputError, match="several"):
        say(open_at(tmp_path), ("click", "tone"))
    say(open_at(tmp_path, several=True), ("click", "tone"), answer=())
    assert [(row["label"], row["answer"]) for row in rows(tmp_path)] == [("click;tone", "")]


def test_an_answer_is_one_of_the_classes(tmp_path):
    with pytest.raises(InputError, match="no class 'frog'"):
        say(open_at(tmp_path), answer=("frog",))


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("a.wav", "a.wav"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\b.wav", "b.wav"),
        ("..", "recording"),
        ("", "recording"),
        ("=cmd|'calc'!A0.wav", "./=cmd_'calc'!A0.wav"),
        ("=HYPERLINK(1)/=2", "./=2"),
        ("-1.wav", "./-1.wav"),
        ("a;=1\r\n.wav", "a_=1__.wav"),
        ("null", "./null"),
    ],
)
def test_names_lead_nowhere_and_are_no_formulas(name, clean):
    assert clean_name(name) == clean
    assert clean_name(name)[0] not in subject.FORMULA


def test_a_part_outside_of_the_recording_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nothing from 0\.5 to 0\.4 s"):
        say(open_at(tmp_path), start_s=0.5, end_s=0.9)


def test_room_is_bounded(tmp_path, monkeypatch):
    corrections = open_at(tmp_path, keep_sounds=True, max_mb=1)
    (tmp_path / "much").write_bytes(b"0" * 999_000)
    with pytest.raises(HttpProblem, match="1 MB") as refused:
        say(corrections)
    assert refused.value.status == 507
    assert not (tmp_path / "sounds").exists()
    monkeypatch.setattr(subject, "MOST_ROWS", 1)
    say(open_at(tmp_path))
    with pytest.raises(HttpProblem, match="1 rows"):
        say(open_at(tmp_path), seed=1)


def test_what_is_refused_changes_nothing(tmp_path, monkeypatch):
    corrections = open_at(tmp_path, keep_sounds=True)
    say(corrections, "tone", seed=0)
    say(corrections, "frog", seed=1)
    monkeypatch.setattr(subject, "MOST_ROWS", 1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for seed in (0, 2):
        with pytest.raises(HttpProblem, match=r"new_labels\.csv has 1 rows"):
            say(corrections, "frog", seed=seed)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("first", "then"), [("tone", "frog"), ("frog", "tone")])
def test_the_new_word_is_there_before_the_old_one_goes(tmp_path, monkeypatch, first, then):
    done = say(open_at(tmp_path), first)
    write = subject.write_bytes

    def write_other(path, data):
        if path.name == done.table:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(subject, "write_bytes", write_other)
    with pytest.raises(KeyboardInterrupt):
        say(open_at(tmp_path), then)
    tables = ("corrections.csv", "new_labels.csv")
    assert {row["label"] for table in tables for row in rows(tmp_path, table)} == {first, then}


def test_a_file_that_goes_meanwhile_is_a_matter_of_storage(tmp_path, monkeypatch):
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(subject.Path, "is_file", lambda _: True)
    with pytest.raises(StorageError):
        say(open_at(tmp_path))


def test_a_table_that_others_changed_is_left_alone(tmp_path):
    (tmp_path / "corrections.csv").write_text("filepath;label\na.wav;tone\n")
    with pytest.raises(StorageError, match="other columns"):
        say(open_at(tmp_path))
    assert "a.wav;tone" in (tmp_path / "corrections.csv").read_text()


def test_where_they_go(tmp_path, monkeypatch):
    assert folder_of(ServeSettings(run=str(tmp_path))) == tmp_path / "corrected"
    assert folder_of(ServeSettings(run="s3://bucket/run")) is None
    assert folder_of(ServeSettings(run="s3://b/r", corrections={"folder": "/x"})).as_posix() == "/x"
    assert folder_of(ServeSettings(run=str(tmp_path), corrections={"enabled": False})) is None
    monkeypatch.setattr(subject.os, "access", lambda *_: False)
    assert folder_of(ServeSettings(run=str(tmp_path))) is None


@pytest.fixture
def correct(ask, serve_run, tmp_path):
    """The function that sends a correction over HTTP."""

    def call(said, *, files=1, headers=None, token=None, **settings):
        parts = [(b'file"; filename="recording', to_wav(make_sound()))] * files
        form = b"".join(
            b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % part
            for part in parts + ([] if said is None else [(b"correction", said)])
        )
        where = {"folder": str(tmp_path)} | settings
        return ask(
            "POST",
            "/v1/corrections",
            service=serve_run(corrections=where),
            body=form + b"--x--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=x"} | (headers or {}),
            token=token,
        )

    return call


SAID = json.dumps({"labels": ["tone"], "answer": ["click"], "probability": 0.6}).encode()


def test_over_http(correct, tmp_path):
    reply = correct(SAID)
    assert reply.status == 200
    assert (reply.json()["label"], reply.json()["sound_kept"]) == ("tone", False)
    assert [row["filepath"] for row in rows(tmp_path)] == ["recording"]
    assert correct(SAID, keep_sounds=True).json()["filepath"].startswith("sounds/")


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        (b"", 400, "bad_json"),
        (b"{}", 422, "bad_field"),
        (SAID.replace(b"0.6", b"6"), 422, "bad_field"),
        (SAID.replace(b"tone", b"=1"), 422, "bad_input"),
    ],
)
def test_what_is_wrong_is_refused(correct, tmp_path, said, status, code):
    reply = correct(said)
    assert (reply.status, reply.json()["code"]) == (status, code)
    assert not (tmp_path / "corrections.csv").exists()


def test_a_form_that_is_not_whole_is_told_so(correct):
    missing = correct(None)
    assert (missing.status, missing.json()["code"]) == (422, "bad_form")
    assert "parts file and correction" in missing.json()["hint"]
    assert correct(SAID, files=2).json()["hint"].startswith("send one file")


def test_pages_of_other_sites_may_not_correct(correct):
    origin = {"Origin": "http://elsewhere"}
    assert correct(SAID, headers=origin).json()["code"] == "bad_origin"
    assert correct(SAID, headers={"Origin": "http://localhost"}).status == 200


def test_it_takes_a_scope_and_a_place(correct, ask, serve_run, tmp_path):
    token = "0123456789abcdef"
    assert correct(SAID, token=token).status == 401
    assert "correct" in Allowance(token=token).scopes
    assert correct(SAID, enabled=False).json()["code"] == "not_kept"
    for settings, kept in (
        ({}, "hash"),
        ({"keep_sounds": True}, "sound"),
        ({"enabled": False}, "off"),
    ):
        service = serve_run(corrections={"folder": str(tmp_path)} | settings)
        assert ask("GET", "/v1/model", service=service).json()["corrections"] == kept
