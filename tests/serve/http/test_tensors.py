"""The Open Inference Protocol on the wire: bytes behind the JSON, outputs that are asked for."""

import base64
import gzip
import json

import numpy as np
import pytest

from xmoe.serve.http.tensors import Tensor
from xmoe.serve.settings import HttpSettings

RATE_HZ = 8000
INFER = "/v2/models/xmoe/infer"
LENGTH = "inference-header-content-length"


def tensor(samples, **changes):
    told = {"name": "samples", "shape": [len(samples)], "datatype": "FP32"}
    return told | {"parameters": {"sample_rate_hz": RATE_HZ}} | changes


def in_json(samples, *, tensor_has=None, **more):
    has = tensor(samples, data=np.asarray(samples).tolist()) | (tensor_has or {})
    return json.dumps({"inputs": [has], **more}).encode()


def in_binary(raw, has, **more):
    """Body and headers as the protocol's extension has them."""
    has = has | {"parameters": has.get("parameters", {}) | {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [has], **more}).encode()
    return {"body": head + raw, "headers": {LENGTH: str(len(head))}}


def string(data):
    return len(data).to_bytes(4, "little") + data


def read_outputs(reply):
    """The outputs of a reply by name, out of JSON or of the bytes behind it."""
    assert reply.status == 200, reply.body[:300]
    end = int(reply.headers.get(LENGTH, len(reply.body)))
    tail, found = reply.body[end:], {}
    for output in json.loads(reply.body[:end])["outputs"]:
        if "data" in output:
            found[output["name"]] = output["data"]
            continue
        size = output["parameters"]["binary_data_size"]
        raw, tail = tail[:size], tail[size:]
        if output["datatype"] == "FP64":
            found[output["name"]] = np.frombuffer(raw, "<f8").reshape(output["shape"]).tolist()
        else:
            assert int.from_bytes(raw[:4], "little") == len(raw) - 4
            found[output["name"]] = [raw[4:].decode()]
    assert tail == b""
    return found


@pytest.mark.parametrize(("datatype", "dtype"), [("FP16", "<f2"), ("FP32", "<f4"), ("FP64", "<f8")])
def test_samples_as_bytes_are_answered_as_in_process(ask_one, sound, in_process, datatype, dtype):
    values = sound().astype(dtype)
    expected = in_process.predict(values.astype(np.float32), RATE_HZ)
    for shape in ([len(values)], [1, len(values)]):
        sent = in_binary(values.tobytes(), tensor(values, datatype=datatype, shape=shape))
        found = read_outputs(ask_one("POST", INFER, **sent))
        assert found["probabilities"] == pytest.approx(
            list(expected.probabilities.values()), abs=1e-5
        )
        assert found["label"] == [expected.label]


def test_a_file_as_bytes_as_base64_and_as_the_whole_body(ask_one, wav, sound, in_process):
    file = wav(sound())
    has = {"name": "recording", "shape": [1, 1], "datatype": "BYTES"}
    wrapped = base64.encodebytes(file).decode()
    expected = list(in_process.predict(sound(), RATE_HZ).probabilities.values())
    for sent in (
        in_binary(string(file), has),
        {"body": json.dumps({"inputs": [has | {"data": [[wrapped]]}]}).encode()},
        {"body": file, "headers": {LENGTH: "0"}},
    ):
        found = read_outputs(ask_one("POST", INFER, **sent))
        assert found["probabilities"] == pytest.approx(expected, abs=1e-5)


def test_bytes_may_be_compressed_with_their_json(ask_one, sound):
    sent = in_binary(sound().tobytes(), tensor(sound()))
    plain = read_outputs(ask_one("POST", INFER, **sent))
    headers = sent["headers"] | {"Content-Encoding": "gzip"}
    packed = ask_one("POST", INFER, body=gzip.compress(sent["body"]), headers=headers)
    assert read_outputs(packed) == plain


def test_outputs_come_as_bytes_where_that_is_asked_for(ask_one, sound):
    samples = sound().tolist()
    plain = read_outputs(ask_one("POST", INFER, body=in_json(samples)))
    every = ask_one("POST", INFER, body=in_json(samples, parameters={"binary_data_output": True}))
    assert every.headers["content-type"] == "application/octet-stream"
    assert read_outputs(every) == plain
    mixed = [
        {"name": "label", "parameters": {"binary_data": False}},
        {"name": "probabilities", "parameters": {}},
    ]
    body = in_json(samples, outputs=mixed, parameters={"binary_data_output": True})
    reply = ask_one("POST", INFER, body=body)
    head = json.loads(reply.body[: int(reply.headers[LENGTH])])
    assert [output["name"] for output in head["outputs"]] == ["label", "probabilities"]
    assert "data" in head["outputs"][0]
    assert read_outputs(reply) == plain
    alone = in_json(samples, outputs=[{"name": "label", "parameters": {"binary_data": True}}])
    assert read_outputs(ask_one("POST", INFER, body=alone)) == {"label": plain["label"]}


def test_only_what_is_asked_for_comes_back(ask_one, sound):
    reply = ask_one("POST", INFER, body=in_json(sound(), outputs=[{"name": "label"}]))
    assert [output["name"] for output in reply.json()["outputs"]] == ["label"]
    refused = ask_one("POST", INFER, body=in_json(sound(), outputs=[{"name": "logits"}]))
    assert (refused.status, refused.json()["code"]) == (400, "unknown_output")
    assert refused.json()["hint"] == "ask for probabilities, label"
    assert refused.json()["error"].startswith("there is no such output")


@pytest.mark.parametrize(("count", "status"), [(1, 200), (99, 200), (0, 422), ("x", 422)])
def test_classes_are_ranked(ask_one, sound, in_process, count, status):
    asked = [{"name": "probabilities", "parameters": {"classification": count}}]
    reply = ask_one("POST", INFER, body=in_json(sound(), outputs=asked))
    assert reply.status == status
    if status == 200:
        (output,) = reply.json()["outputs"]
        answer = in_process.predict(sound(), RATE_HZ)
        best = f"{answer.probability:.6f}:{answer.label_id}:{answer.label}"
        assert (output["datatype"], output["shape"]) == ("BYTES", [min(count, 2)])
        assert output["data"][0] == best


def test_a_label_cannot_be_ranked(ask_one, sound):
    asked = [{"name": "label", "parameters": {"classification": 1}}]
    reply = ask_one("POST", INFER, body=in_json(sound(), outputs=asked))
    assert (reply.status, reply.json()["hint"]) == (400, "ask for it with probabilities")


def test_rank_and_pack():
    ranked = Tensor("FP64", [1.0, 5.0, 10.0, 4.0], ["a", "b", "c", "d"]).rank(2)
    assert ranked.values == ["10.000000:2:c", "5.000000:1:b"]
    assert ranked.pack() == string(b"10.000000:2:c") + string(b"5.000000:1:b")
    assert Tensor("FP64", [1.5]).pack() == np.float64(1.5).tobytes()


def broken(raw=b"abcd", **changes):
    has = {"name": "samples", "shape": [1], "datatype": "FP32"} | changes
    return in_binary(raw, has | {"parameters": {"sample_rate_hz": RATE_HZ}})


def relabelled(length):
    return broken() | {"headers": {} if length is None else {LENGTH: length}}


UNTOLD = {"parameters": {"binary_data_size": 4}}
FILE = {"name": "recording", "datatype": "BYTES"}
BROKEN = {
    "length beyond the body": (relabelled("9999"), 400),
    "length that is none": (relabelled("-1"), 400),
    "length of many digits": (relabelled("9" * 5000), 400),
    "no length": (relabelled(None) | {"body": in_json([0.0], tensor_has=UNTOLD)}, 400),
    "JSON cut by its length": (relabelled("20"), 400),
    "bytes that nobody names": (
        {"body": in_json([0.0]) + b"1234", "headers": {LENGTH: str(len(in_json([0.0])))}},
        400,
    ),
    "part of a number": (broken(b"abc"), 422),
    "another shape": (broken(b"abcdefgh"), 422),
    "string longer than the bytes": (broken((9).to_bytes(4, "little") + b"ab", **FILE), 422),
    "string without its length": (broken(b"ab", **FILE), 422),
    "not finite": (broken(np.full(800, np.nan, "<f4").tobytes(), shape=[800]), 422),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_fit_is_refused_in_the_words_of_the_protocol(ask_one, name):
    sent, status = BROKEN[name]
    reply = ask_one("POST", INFER, **sent)
    assert reply.status == status, reply.body
    assert reply.json()["hint"]
    assert isinstance(reply.json()["error"], str)


def test_null_is_absence_and_numbers_may_be_names(ask_one, sound):
    """As codecs write requests that leave most of it out."""
    has = {"parameters": {"content_type": "np", "sample_rate_hz": str(RATE_HZ)}}
    more = {"id": None, "outputs": None, "parameters": None}
    assert ask_one("POST", INFER, body=in_json(sound(), tensor_has=has, **more)).status == 200
    assert ask_one("POST", INFER, body=in_json(sound(), id=42)).json()["id"] == "42"


def test_lists_may_be_nested_as_deep_as_the_shape(ask_one, sound):
    samples = sound().tolist()
    changes = {"shape": [1, 1, len(samples)], "data": [[samples]]}
    assert ask_one("POST", INFER, body=in_json(samples, tensor_has=changes)).status == 200
    for data in (
        [[0.1], [0.1, 0.2]],
        [{"a": 1}],
        [True, False, True],
        ["a", "", ""],
        [10**400] * 3,
    ):
        reply = ask_one(
            "POST", INFER, body=in_json(samples, tensor_has={"shape": [3], "data": data})
        )
        assert reply.status == 422


def test_numbers_have_the_limits_of_files(ask, serve_run, sound):
    service = serve_run(http=HttpSettings(max_duration_s=0.2))
    body = json.dumps({"samples": sound().tolist(), "sample_rate_hz": RATE_HZ}).encode()
    for path, sent in (
        (INFER, in_binary(sound().tobytes(), tensor(sound()))),
        ("/v1/classify", {"body": body}),
    ):
        reply = ask("POST", path, service=service, **sent)
        assert (reply.status, reply.json()["code"]) == (413, "too_long")
