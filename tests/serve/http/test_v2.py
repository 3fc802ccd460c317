"""The Open Inference Protocol answers as /v1 does."""

import base64
import json

import pytest

RATE_HZ = 8000


def body(samples, **changes):
    tensor = {
        "name": "samples",
        "shape": [len(samples)],
        "datatype": "FP32",
        "data": samples,
        "parameters": {"sample_rate_hz": RATE_HZ},
    }
    return json.dumps({"id": "a", "inputs": [tensor | changes]}).encode()


def test_infer(ask, sound, in_process):
    reply = ask("POST", "/v2/models/xmoe/infer", body=body(sound().tolist()))
    answer = reply.json()
    expected = in_process.predict(sound(), RATE_HZ)
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["probabilities"]["data"] == pytest.approx(
        list(expected.probabilities.values()), abs=1e-5
    )
    assert outputs["label"]["data"] == [expected.label]
    assert answer["id"] == "a"


def test_row_of_one_recording_is_taken(ask, sound):
    samples = sound().tolist()
    changes = {"shape": [1, len(samples)], "data": [samples]}
    assert ask("POST", "/v2/models/xmoe/infer", body=body(samples, **changes)).status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x"},
        {"shape": [3]},
        {"shape": [2, 1600]},
        {"datatype": "INT8"},
        {"parameters": {}},
        {"parameters": {"sample_rate_hz": 1}},
        {"data": "x"},
        {"data": ["x"]},
        {"datatype": "BYTES", "shape": [1], "data": ["UklGRg=="]},
        {"name": "recording", "datatype": "BYTES", "shape": [1], "data": ["no base64!"]},
        {"name": "recording", "datatype": "BYTES", "shape": [1], "data": [0.5]},
    ],
)
def test_bad_tensor(ask, sound, changes):
    reply = ask("POST", "/v2/models/xmoe/infer", body=body(sound().tolist(), **changes))
    assert reply.status == 422
    assert reply.json()["hint"]
    assert isinstance(reply.json()["error"], str)


def test_file_as_bytes_is_answered_as_its_samples(ask, sound, wav):
    file = base64.b64encode(wav(sound())).decode()
    changes = {"name": "recording", "shape": [1], "datatype": "BYTES", "data": [file]}
    replies = [
        ask("POST", "/v2/models/xmoe/infer", body=body(sound().tolist(), **extra)).json()
        for extra in ({}, changes | {"parameters": {}})
    ]
    data = [reply["outputs"][0]["data"] for reply in replies]
    assert data[0] == pytest.approx(data[1], abs=1e-6)


def test_refusal_of_the_door_is_in_the_words_of_the_protocol(ask):
    reply = ask("GET", "/v2/models/xmoe", token="0123456789abcdef0123")
    assert reply.status == 401
    assert "token" in reply.json()["error"]


def test_metadata(ask):
    model = ask("GET", "/v2/models/xmoe").json()
    assert model["inputs"][0]["name"] == "samples"
    assert model["outputs"][0]["shape"] == [2]
    assert ask("GET", "/v2/models/xmoe/ready").status == 200
    server = ask("GET", "/v2").json()
    assert server["name"] == "xmoe"
    assert server["extensions"] == ["binary_tensor_data", "classification"]


def test_version_that_is_listed_has_the_same_routes(ask, sound):
    version = ask("GET", "/v2/models/xmoe").json()["versions"][0]
    path = f"/v2/models/xmoe/versions/{version}"
    assert ask("GET", path).json() == ask("GET", "/v2/models/xmoe").json()
    assert ask("GET", f"{path}/ready").status == 200
    assert ask("POST", f"{path}/infer", body=body(sound().tolist())).status == 200
    unknown = ask("GET", "/v2/models/xmoe/versions/9/ready")
    assert (unknown.status, unknown.json()["hint"]) == (
        404,
        f"ask for {version}, or leave /versions out",
    )
