"""Bodies as clients send them: compressed, as forms of many kinds, as JSON under any name."""

import asyncio
import base64
import codecs
import gzip
import json
import zlib

import numpy as np
import pytest
from starlette.requests import Request

from tests.serve.conftest import ask_asgi
from xmoe.serve.guard.drain import Gate
from xmoe.serve.guard.problems import HttpProblem
from xmoe.serve.guard.tokens import Allowance
from xmoe.serve.http.api import build_app
from xmoe.serve.http.bodies import MOST_MEMBERS, PIECE_BYTES, read_base64, read_body
from xmoe.serve.settings import HttpSettings

RATE_HZ = 8000
TOKEN = "0123456789abcdef"


def as_json(samples, **options):
    return json.dumps({"samples": samples.tolist(), "sample_rate_hz": RATE_HZ, **options}).encode()


def part(data, disposition, *, more=""):
    head = f"--cut\r\nContent-Disposition: {disposition}\r\n{more}\r\n".encode()
    return head + data + b"\r\n"


def form(*parts, kind="multipart/form-data; boundary=cut"):
    return {"body": b"".join(parts) + b"--cut--\r\n", "headers": {"Content-Type": kind}}


def in_two(data):
    return gzip.compress(data[:1000]) + gzip.compress(data[1000:])


CODED = {
    "gzip": gzip.compress,
    "GZip": gzip.compress,
    "x-gzip": gzip.compress,
    " identity, gzip": in_two,
    "deflate": zlib.compress,
    "identity": bytes,
    "": bytes,
}


@pytest.mark.parametrize("coding", CODED)
def test_what_is_compressed_is_answered_as_it_was(ask_one, wav, sound, in_process, coding):
    expected = in_process.predict(sound(), RATE_HZ).probabilities
    file, headers = wav(sound()), {"Content-Encoding": coding}
    packed = CODED[coding](file)
    pieces = [packed[i : i + 997] for i in range(0, len(packed), 997)]
    for body in (packed, pieces, CODED[coding](as_json(sound()))):
        reply = ask_one("POST", "/v1/classify", body=body, headers=headers)
        assert reply.json()["probabilities"] == pytest.approx(expected, abs=1e-5)


def test_every_route_that_takes_sound_inflates(ask_one, wav, sound):
    file = wav(sound())
    several = form(*[part(file, 'form-data; name="f"; filename="a"')] * 2)
    tensor = {"name": "recording", "shape": [1], "datatype": "BYTES"}
    asked = {"inputs": [tensor | {"data": [base64.b64encode(file).decode()]}]}
    for path, body, headers in (
        ("/v1/explain", file, {}),
        ("/v1/classify/batch", several["body"], several["headers"]),
        ("/v2/models/xmoe/infer", json.dumps(asked).encode(), {}),
    ):
        headers = headers | {"Content-Encoding": "gzip"}
        reply = ask_one("POST", path, body=gzip.compress(body), headers=headers)
        assert (reply.status, reply.json().get("failed", 0)) == (200, 0), path


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "utf-8", "aws-chunked"])
def test_a_coding_that_is_not_read_is_refused_with_those_that_are(ask_one, wav, sound, coding):
    headers = {"Content-Encoding": coding}
    reply = ask_one("POST", "/v1/classify", body=wav(sound()), headers=headers)
    assert (reply.status, reply.json()["code"]) == (415, "unsupported")
    assert reply.headers["accept-encoding"] == "gzip, deflate"
    assert "gzip, deflate" in reply.json()["hint"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (bytes, "neither gzip nor zlib"),
        (lambda data: gzip.compress(data)[:-9], "cut short"),
        (lambda data: gzip.compress(data)[:-8] + bytes(8), "damaged"),
        (lambda data: gzip.compress(data) + bytes(8), "damaged"),
        (lambda data: gzip.compress(b"") * (MOST_MEMBERS + 1), "members"),
    ],
)
def test_what_is_not_compressed_as_it_says_is_told(ask_one, wav, sound, damage, told):
    headers = {"Content-Encoding": "gzip"}
    reply = ask_one("POST", "/v1/classify", body=damage(wav(sound())), headers=headers)
    assert (reply.status, reply.json()["code"]) == (400, "bad_coding")
    assert told in reply.json()["message"]


def test_a_bomb_is_inflated_no_further_than_the_limit():
    held, most = [], 1 << 20
    pieces = [gzip.compress(bytes(64 << 20), 1)]

    async def receive():
        return {"type": "http.request", "body": pieces.pop(), "more_body": False}

    headers = [(b"content-encoding", b"gzip")]
    scope = {"type": "http", "headers": headers, "state": {"hold": held.append}}
    with pytest.raises(HttpProblem, match=f"exceeds {most} bytes"):
        asyncio.run(read_body(Request(scope, receive), HttpSettings(max_body_bytes=most)))
    assert max(held) <= PIECE_BYTES
    assert most < sum(held) <= most + PIECE_BYTES


def test_limits_are_those_of_what_is_inflated(ask, serve_run, sound):
    service = serve_run(http=HttpSettings(max_body_bytes=100_000, max_json_bytes=1000))
    sent = {"service": service, "headers": {"Content-Encoding": "gzip"}}
    big = ask("POST", "/v1/classify", body=gzip.compress(bytes(200_000)), **sent)
    text = ask("POST", "/v1/classify", body=gzip.compress(as_json(np.zeros(2000))), **sent)
    assert (big.status, text.status) == (413, 413)
    assert "100000 bytes" in big.json()["message"]
    assert "1000 bytes" in text.json()["message"]


def test_what_all_bodies_hold_is_counted_inflated(serve_run, wav, sound):
    gate = Gate(build_app(serve_run()), at_once=4, waiting=0, held_bytes=100_000)
    headers = {"content-encoding": "gzip"}
    bodies = [gzip.compress(wav(samples)) for samples in (np.zeros(80_000), sound())]
    assert len(bodies[0]) < 10_000

    async def both():
        return [
            await ask_asgi(gate, "POST", "/v1/classify", body=b, headers=headers) for b in bodies
        ]

    replies = asyncio.run(both())
    assert [reply.status for reply in replies] == [429, 200]


PARTS = {
    "any field": 'form-data; name="audio[]"; filename="clip.wav"',
    "no quotes": "form-data; name=file; filename=clip.wav",
    "letters of UTF-8": 'form-data; name="file"; filename="\u6771\u4eac.wav"',
    "coded as in browsers": 'form-data; name="file"; filename="a%22b%0A.wav"',
    "filename* beside it": 'form-data; name="f"; filename="a"; filename*=UTF-8\'\'%E6%9D%B1.wav',
    "filename* alone": "form-data; name=\"file\"; filename*=UTF-8''%E6%9D%B1%E4%BA%AC.wav",
    "path of Windows": 'form-data; name="file"; filename="C:\\sounds\\clip.wav"',
    "empty name": 'form-data; name="file"; filename=""',
    "no name at all": 'form-data; name="file"',
}


@pytest.mark.parametrize("name", PARTS)
def test_a_recording_in_a_form_is_found_whatever_it_is_called(
    ask_one, wav, sound, in_process, name
):
    reply = ask_one("POST", "/v1/classify", **form(part(wav(sound()), PARTS[name])))
    assert reply.json()["label"] == in_process.predict(sound(), RATE_HZ).label


@pytest.mark.parametrize(
    "kind",
    [
        'Multipart/Form-Data; BOUNDARY="cut"',
        "multipart/form-data; charset=utf-8; boundary=cut",
        "multipart/form-data; boundary=cut;",
        "multipart/form-data;boundary=cut; x",
    ],
)
def test_a_form_is_known_by_any_parameters(ask_one, wav, sound, kind):
    sent = form(part(wav(sound()), PARTS["any field"]), kind=kind)
    assert ask_one("POST", "/v1/classify", **sent).status == 200


def test_a_form_without_a_boundary_is_told_who_makes_it(ask_one, wav, sound):
    sent = form(part(wav(sound()), PARTS["any field"]), kind="multipart/form-data")
    reply = ask_one("POST", "/v1/classify", **sent)
    assert (reply.status, reply.json()["code"]) == (400, "bad_form")
    assert "let the HTTP client set Content-Type" in reply.json()["hint"]


def test_other_parts_of_a_form_are_no_recordings(ask_one, wav, sound):
    text = part(b"whisper-1", 'form-data; name="model"')
    unused = part(b"", 'form-data; name="other"; filename=""')
    file = part(base64.encodebytes(wav(sound())), PARTS["any field"], more="")
    coded = file.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1)
    assert ask_one("POST", "/v1/classify", **form(text, unused, coded)).status == 200
    reply = ask_one("POST", "/v1/classify", **form(text, unused))
    assert (reply.status, reply.json()["code"]) == (422, "no_file")


def test_a_batch_takes_parts_without_names(ask_one, wav, sound):
    parts = [part(wav(sound(seed=seed)), PARTS["no name at all"]) for seed in range(12)]
    answer = ask_one("POST", "/v1/classify/batch", **form(*parts)).json()
    assert (len(answer["answers"]), answer["failed"]) == (12, 0)


def test_options_may_stand_beside_the_recording(ask_one, wav, sound):
    field = part(b"0", 'form-data; name="k_max"')
    file = part(wav(sound()), PARTS["any field"])
    wrong = part(b"many", 'form-data; name="k_max"')
    assert ask_one("POST", "/v1/classify", **form(field, file)).json()["k"] == 0
    batch = ask_one("POST", "/v1/classify/batch", **form(field, file)).json()
    assert batch["answers"][0]["answer"]["k"] == 0
    refused = ask_one("POST", "/v1/classify", **form(wrong, file))
    assert (refused.status, refused.json()["message"][:6]) == (422, "k_max:")
    for body, query in ((as_json(sound()), "k_max=0"), (as_json(sound(), k_max=0), "")):
        assert ask_one("POST", "/v1/classify", body=body, query=query).json()["k"] == 0
    assert ask_one("POST", "/v1/explain", body=as_json(sound(), k_max=1)).json()["k"] == 1


def test_reasons_asked_for_in_a_form_need_their_scope(serve_run, wav, sound):
    app = build_app(serve_run(), tokens={"field": Allowance(token=TOKEN, scopes={"ask"})})
    file = part(wav(sound()), PARTS["any field"])
    sent = form(part(b"true", 'form-data; name="explain"'), file)
    headers = sent["headers"] | {"X-API-Key": TOKEN}
    for path in ("/v1/classify", "/v1/classify/batch"):
        reply = asyncio.run(ask_asgi(app, "POST", path, body=sent["body"], headers=headers))
        assert (reply.status, reply.json()["code"]) == (403, "no_scope")


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "text/plain",
        "APPLICATION/JSON;charset=UTF-8",
        "application/vnd.api+json",
        None,
    ],
)
def test_json_is_known_by_its_first_byte(ask_one, wav, sound, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    for body in (as_json(sound()), codecs.BOM_UTF8 + as_json(sound()), wav(sound())):
        reply = ask_one("POST", "/v1/classify", body=body, headers=headers)
        assert reply.status == 200, reply.body


def test_a_file_that_is_packed_itself_is_told_how_to_be_sent(ask_one, wav, sound):
    reply = ask_one("POST", "/v1/classify", body=gzip.compress(wav(sound())))
    assert (reply.status, reply.json()["code"]) == (415, "not_audio")
    assert "Content-Encoding: gzip" in reply.json()["hint"]


def test_base64_is_read_as_people_write_it():
    data = bytes(range(256)) + b"?"
    plain = base64.b64encode(data).decode()
    for text in (
        plain,
        plain.rstrip("="),
        base64.encodebytes(data).decode(),
        " \t".join(plain),
        base64.urlsafe_b64encode(data).decode(),
        f"data:audio/x-wav;codec=pcm;base64,{plain}",
    ):
        assert read_base64(text) == data
    for text in ("no base64!", "abcde", "data:audio/wav;base64,!"):
        with pytest.raises(HttpProblem, match="not base64"):
            read_base64(text)
