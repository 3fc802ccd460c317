"""The routes under /v1: what answers hold, options, forms, batches, descriptions, health."""

import json

import pytest

from tests.fixtures.runs import RATE_HZ, make_sound, write_run
from xmoe.profile.profile import write_clip_table
from xmoe.serve.settings import HttpSettings
from xmoe.serve.watch.fleet import Fleet, Siblings
from xmoe.serve.watch.incoming import measure_incoming


def form(*files, boundary="cut"):
    """Body and headers of a form with one part per file."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: audio/wav\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return {
        "body": body,
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    }


def test_answer_is_that_of_predict(ask, wav, sound, in_process):
    expected = in_process.predict(sound(), RATE_HZ)
    reply = ask("POST", "/v1/classify", body=wav(sound()))
    assert reply.status == 200
    answer = reply.json()
    assert answer["label"] == expected.label
    assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    assert answer["k"] == expected.k == 2.0
    assert [use["name"] for use in answer["experts"]] == [use.name for use in expected.experts]
    weights = [use["weight"] for use in answer["experts"]]
    assert weights == pytest.approx([use.weight for use in expected.experts], abs=1e-5)
    assert answer["degraded"] is False
    assert set(answer["timing_ms"]) == {"decode", "frontend", "plan", "experts", "total"}
    assert answer["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("k_max", [0, 1, 2])
def test_request_bounds_its_experts(ask, wav, sound, in_process, k_max):
    answer = ask("POST", "/v1/classify", body=wav(sound()), query=f"k_max={k_max}").json()
    expected = in_process.predict(sound(), RATE_HZ, k_max=k_max)
    assert answer["k"] == len(answer["experts"]) == k_max
    assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)


def test_samples_as_numbers_give_the_same_answer(ask, wav, sound):
    body = json.dumps({"samples": sound().tolist(), "sample_rate_hz": RATE_HZ}).encode()
    told = ask("POST", "/v1/classify", body=body, headers={"Content-Type": "application/json"})
    sent = ask("POST", "/v1/classify", body=wav(sound()))
    assert told.json()["probabilities"] == pytest.approx(sent.json()["probabilities"], abs=1e-6)


def test_form_with_one_file(ask, wav, sound):
    reply = ask("POST", "/v1/classify", **form(("../../etc/passwd", wav(sound()))))
    assert reply.status == 200
    assert "passwd" not in reply.body.decode()


def test_long_recording_has_windows_and_events(ask, wav, sound, in_process):
    reply = ask("POST", "/v1/classify", body=wav(sound(2.0)))
    answer = reply.json()
    expected = in_process.predict(sound(2.0), RATE_HZ)
    assert answer["segments"] == expected.segments == len(answer["windows"]) > 4
    assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    assert answer["windows"][1]["start_s"] == pytest.approx(0.2)
    likely = {one["label"] for one in answer["windows"] if one["probability"] >= 0.5}
    assert {one["label"] for one in answer["events"]} == likely != set()
    assert all(0.0 <= one["start_s"] < one["end_s"] <= 2.0 for one in answer["events"])


def test_windows_lie_as_far_apart_as_is_asked(ask, wav, sound, in_process):
    answer = ask("POST", "/v1/classify", body=wav(sound(2.0)), query="hop_s=0.1").json()
    starts = [window["start_s"] for window in answer["windows"]]
    assert starts == pytest.approx([0.1 * index for index in range(len(starts))])
    assert answer["windows"][-1]["end_s"] == pytest.approx(2.0)
    specs = in_process.hear(sound(2.0)[2400:5600], RATE_HZ)[0]
    logits = in_process.answer_segments(specs).logits
    third = answer["windows"][3]
    assert third["label"] == in_process.config.classes[int(logits.argmax())]
    assert third["probability"] == pytest.approx(float(logits.softmax(1).max()), abs=1e-5)


@pytest.mark.parametrize(("hop_s", "status"), [("0.1", 200), ("0.01", 422), ("0", 422), ("x", 422)])
def test_hop_is_bounded(ask, serve_run, wav, sound, hop_s, status):
    service = serve_run(http=HttpSettings(max_windows=20))
    reply = ask("POST", "/v1/classify", service=service, body=wav(sound()), query=f"hop_s={hop_s}")
    long = ask("POST", "/v1/classify", service=service, body=wav(sound(2)), query=f"hop_s={hop_s}")
    assert long.status == status
    if hop_s == "0.01":
        assert reply.status == 200
        assert long.json()["message"].startswith("hop_s: ")


def test_many_windows_pass_through_a_short_queue(ask, serve_run, wav, sound):
    service = serve_run(router={"max_rows": 2, "max_waiting": 4})
    reply = ask("POST", "/v1/classify", service=service, body=wav(sound(4.0)))
    assert (reply.status, reply.json()["segments"]) == (200, 19)


def test_batch_answers_around_a_bad_file(ask, wav, sound):
    files = [("a.wav", wav(sound())), ("b.wav", b"no sound"), ("c.wav", wav(sound(seed=1)))]
    answer = ask("POST", "/v1/classify/batch", **form(*files)).json()
    assert answer["failed"] == 1
    assert [item["error"] and item["error"]["code"] for item in answer["answers"]] == [
        None,
        "not_audio",
        None,
    ]


def test_explanation_as_numbers_and_as_picture(ask, wav, sound):
    record = ask("POST", "/v1/explain", body=wav(sound())).json()
    assert {"target", "experts", "maps", "k"} <= set(record)
    reply = ask("POST", "/v1/explain", body=wav(sound()), query="output=png&picture=patch_routing")
    assert reply.headers["content-type"] == "image/png"
    assert reply.body.startswith(b"\x89PNG")


def test_explanation_with_arrays_of_the_segment_that_is_asked_for(ask, wav, sound):
    query = "arrays=true&at_s=0.73&k_max=1"
    record = ask("POST", "/v1/explain", body=wav(sound(2.0)), query=query).json()
    assert record["k"] == len(record["experts"]) == 1
    assert record["segment_s"] == pytest.approx([0.73, 1.135])
    assert record["arrays"]["spectrogram"]["frames"] == 41
    assert record["overview"]["extent_s"] == [0.0, 2.0]
    last = ask("POST", "/v1/explain", body=wav(sound(2.0)), query="at_s=99").json()
    assert last["segment_s"] == pytest.approx([1.6, 2.005])
    assert "arrays" not in last


def test_answer_may_carry_its_explanation(ask, wav, sound):
    answer = ask("POST", "/v1/classify", body=wav(sound()), query="explain=true").json()
    assert answer["explanation"]["answer"] == answer["label"]


def test_model_is_described(ask):
    model = ask("GET", "/v1/model").json()
    assert model["labels"] == ["click", "tone"]
    assert [e["name"] for e in model["experts"] if e["masked"]] == ["high_band"]
    assert model["experts"][0]["band_hz"][1] > model["experts"][1]["band_hz"][1]


def test_experts_are_described(ask):
    answer = ask("GET", "/v1/experts").json()
    experts = answer["experts"]
    assert (answer["routers"], answer["silent_routers"], answer["other_routers"]) == (1, 0, 0)
    assert all(expert["failures"] == {} for expert in experts)
    assert {(expert["deployment"], expert["replicas"]) for expert in experts} == {(None, None)}
    assert [(e["name"], e["breaker"]) for e in experts] == [
        ("broadband", "closed"),
        ("low", "closed"),
        ("transient", "closed"),
    ]


def test_experts_and_drift_are_those_of_all_routers(ask, serve_run, tmp_path, clip_rows):
    run = write_run(tmp_path / "known")
    write_clip_table(run / "clips.parquet", clip_rows(20))
    service, other = serve_run(run=run), serve_run(run=run)
    other.router.fanout.tallies["low"].note("dead", 0.0)
    other.incoming.note(measure_incoming(make_sound(), RATE_HZ, 0.0), "tone")

    async def report_all():
        return [other.operations.report().model_copy(update={"replica": "b"}), None]

    service.operations.fleet = Fleet(service.operations.report, Siblings("a", "xmoe", report_all))
    answer = ask("GET", "/v1/experts", service=service).json()
    assert (answer["routers"], answer["silent_routers"]) == (2, 1)
    low = next(one for one in answer["experts"] if one["name"] == "low")
    assert (low["calls"], low["failures"], low["breakers"]) == (1, {"dead": 1}, {"closed": 2})
    drift = ask("GET", "/v1/drift", service=service).json()
    assert (drift["routers"], drift["silent_routers"], drift["recordings"]) == (2, 1, 1)


def test_ready_asks_every_expert(ask):
    reply = ask("GET", "/readyz")
    assert reply.status == 200
    assert reply.json()["experts"] == {"broadband": "ok", "low": "ok", "transient": "ok"}


def test_ready_fails_with_an_expert(ask, serve_run):
    async def broken(request, budget_s):
        raise RuntimeError("gone")

    reply = ask("GET", "/readyz", service=serve_run({"low": broken}))
    assert reply.status == 503
    assert reply.json()["experts"] == {"broadband": "ok", "low": "error", "transient": "ok"}


def test_body_over_the_limit_is_refused_with_and_without_its_length(ask, serve_run):
    service = serve_run(http=HttpSettings(max_body_bytes=1000))
    declared = {"Content-Length": "5000"}
    for request in ({"body": b"", "headers": declared}, {"body": [b"x" * 600, b"x" * 600]}):
        reply = ask("POST", "/v1/classify", service=service, **request)
        assert (reply.status, reply.json()["code"]) == (413, "too_large")


def test_stalled_body_is_refused(ask, serve_run):
    service = serve_run(http=HttpSettings(body_timeout_s=0.05))
    reply = ask("POST", "/v1/classify", service=service, body=[b"RIFF"], stalls=True)
    assert (reply.status, reply.json()["code"]) == (408, "body_timeout")


def test_a_run_that_hears_sound_is_described(ask, serve_run, closed_run):
    service = serve_run(run=closed_run)
    model = ask("GET", "/v1/model", service=service).json()
    assert [e["ms"] for e in model["experts"]] == [1.0, 2.0, 4.0]
    assert model["glance_ms"] == 0.5
    assert model["experts"][1] | {"band_hz": None} == {
        "name": "second",
        "kind": "kernels",
        "front_end": "pcen, windows of 50 ms, 16 kernels",
        "licence": None,
        "source": None,
        "band_hz": None,
        "ms": 2.0,
        "masked": False,
        "prior": 1.0,
        "reason": "second of three",
    }
    experts = ask("GET", "/v1/experts", service=service).json()["experts"]
    assert {expert["kind"] for expert in experts} == {"kernels"}


def test_the_licence_of_a_network_is_told(ask, serve_run, backbone_run):
    model = ask("GET", "/v1/model", service=serve_run(run=backbone_run)).json()
    told = [(one["kind"], one["licence"], one["source"]) for one in model["experts"]]
    assert told == [("kernels", None, None)] * 2 + [("backbone", "MIT", "a test")]


def test_budget_in_milliseconds_needs_a_run_that_knows_them(ask, serve_run, closed_run, wav, sound):
    body, service = wav(sound(1.0, seed=2)), serve_run(run=closed_run)
    free = ask("POST", "/v1/classify", service=service, body=body).json()
    bound = ask("POST", "/v1/classify", service=service, body=body, query="budget=1.2ms").json()
    assert free["k"] >= 1.0 > bound["k"]
    headers = {"Content-Type": "application/json"}
    asked = {"samples": sound(1.0, seed=2).tolist(), "sample_rate_hz": RATE_HZ, "budget": "1.2ms"}
    again = ask(
        "POST", "/v1/classify", service=service, body=json.dumps(asked).encode(), headers=headers
    )
    assert again.json()["k"] == bound["k"]
    for path in ("/v1/classify", "/v1/explain"):
        refused = ask("POST", path, body=body, query="budget=2ms")
        assert (refused.status, refused.json()["code"]) == (422, "bad_input")
        assert "mean number of experts" in refused.json()["hint"]
    assert ask("POST", "/v1/classify", body=body, query="budget=2s").status == 422


def test_a_batch_of_recordings_that_differ_is_answered_as_each_alone(
    ask, serve_run, closed_run, closed_in_process, wav, sound
):
    clips = [
        (sound(0.3 + 0.4 * seed, seed=seed), (8000, 16_000, 11_025)[seed]) for seed in range(3)
    ]
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        + wav(*clip)
        + b"\r\n"
        for clip in clips
    ]
    reply = ask(
        "POST",
        "/v1/classify/batch",
        service=serve_run(run=closed_run),
        body=b"".join(parts) + b"--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    for item, clip in zip(reply.json()["answers"], clips, strict=True):
        expected = closed_in_process.predict(*clip)
        assert item["answer"]["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert item["answer"]["k"] == expected.k
