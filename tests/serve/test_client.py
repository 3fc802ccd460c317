"""The client against the application behind a real socket."""

import asyncio
import io
import json
import shutil
import socket
import subprocess
import threading
import urllib.error
from email.message import Message

import numpy as np
import pytest
import uvicorn

from xmoe.base.errors import InputError, XmoeError
from xmoe.serve.client import Client, read_refusal
from xmoe.serve.guard.tokens import single
from xmoe.serve.http.api import build_app
from xmoe.serve.router.fanout import TooFewExperts

TOKEN = "0123456789abcdef"
RATE_HZ = 8000


@pytest.fixture
def served(serve_run):
    """The address of the tiny run behind a token, and the service."""
    service = serve_run()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    app = build_app(service, tokens=single(TOKEN))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", service
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture
def client(served):
    return Client(served[0], TOKEN, retries=1)


def test_file_and_bytes(client, wav, sound, in_process, tmp_path):
    path = tmp_path / "clip.wav"
    path.write_bytes(wav(sound()))
    expected = in_process.predict(sound(), RATE_HZ)
    for audio in (path, str(path), path.read_bytes()):
        answer = client.classify(audio, k_max=2, explain=False)
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)


def test_model_readiness_and_reasons(client, wav, sound):
    assert client.ready()
    assert client.model()["labels"] == ["click", "tone"]
    assert client.explain(wav(sound()))["experts"]
    assert client.draw(wav(sound()), "saliency_router").startswith(b"\x89PNG")


def test_refused_recording_says_why(client):
    with pytest.raises(InputError, match="not_audio") as raised:
        client.classify(b"no sound at all")
    assert raised.value.mend


def test_wrong_token(served):
    with pytest.raises(InputError, match="unauthorised"):
        Client(served[0], "wrong").model()


def test_busy_service_is_asked_again(served, client, wav, sound, monkeypatch):
    real, calls = served[1].classify_bytes, []

    async def busy_once(data, options):
        calls.append(options)
        if len(calls) == 1:
            raise TooFewExperts
        return await real(data, options)

    monkeypatch.setattr(served[1], "classify_bytes", busy_once)
    assert client.classify(wav(sound()))["label"]
    assert len(calls) == 2


def test_an_address_without_the_path_of_the_application():
    said = io.BytesIO(b"Path '/v1/classify' not found.")
    error = urllib.error.HTTPError("http://127.0.0.1:8000/v1/classify", 404, "", Message(), said)
    assert "answered 404 (give the whole address" in str(read_refusal(error))


def test_nobody_there():
    with pytest.raises(XmoeError, match="cannot be reached"):
        Client("http://127.0.0.1:9", timeout_s=1.0).model()
    assert not Client("http://127.0.0.1:9").ready()


def test_bad_address_and_missing_file(tmp_path, client):
    with pytest.raises(InputError, match="address"):
        Client("localhost:8000")
    with pytest.raises(InputError, match="cannot be read"):
        client.classify(tmp_path / "none.wav")


def test_loopback_is_asked_without_the_proxy_that_is_set(served, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert Client(served[0], f"{TOKEN}\n").ready()
    with pytest.raises(XmoeError, match="NO_PROXY"):
        Client("http://service.invalid").model()


@pytest.fixture
def raw_socket(served):
    """The function that opens a connection and sends the head of a POST to /v1/classify."""
    opened = []

    def connect(*headers, token=TOKEN):
        host, port = served[0].removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), timeout=20)
        opened.append(connection)
        lines = ("POST /v1/classify HTTP/1.1", f"Host: {host}", f"X-API-Key: {token}", *headers)
        connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        return connection

    yield connect
    for connection in opened:
        connection.close()


def read_reply(connection):
    """The status and the JSON of a reply."""
    reader = connection.makefile("rb")
    status = int(reader.readline().split()[1])
    headers = dict(line.split(b": ", 1) for line in iter(reader.readline, b"\r\n"))
    return status, json.loads(reader.read(int(headers[b"content-length"])))


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(raw_socket, wav, sound):
    file = wav(sound())
    connection = raw_socket("Expect: 100-continue", f"Content-Length: {len(file)}")
    assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(file)
    assert read_reply(connection)[0] == 200


@pytest.mark.parametrize(
    ("headers", "token", "status"),
    [
        (["Content-Length: 5000"], "wrong", 401),
        (["Content-Length: 99999999"], TOKEN, 413),
        (["Content-Length: 5000", "Content-Encoding: br"], TOKEN, 415),
    ],
)
def test_what_will_be_refused_is_not_asked_for_first(raw_socket, headers, token, status):
    assert read_reply(raw_socket("Expect: 100-continue", *headers, token=token))[0] == status


def test_chunks_without_a_length(raw_socket, wav, sound):
    connection = raw_socket("Transfer-Encoding: chunked")
    file = wav(sound())
    for start in range(0, len(file), 999):
        piece = file[start : start + 999]
        connection.sendall(f"{len(piece):x};note=1\r\n".encode() + piece + b"\r\n")
    connection.sendall(b"0\r\n\r\n")
    assert read_reply(connection)[0] == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize(
    "given",
    [
        ["-T", "clip.wav"],
        ["-T", "-"],
        ["-F", "sound=@clip.wav"],
        ["-F", "sound=<clip.wav"],
        ["--data-binary", "@clip.wav"],
        ["-d", "@clip.json"],
    ],
)
def test_curl_as_people_call_it(served, wav, sound, tmp_path, given):
    (tmp_path / "clip.wav").write_bytes(wav(sound()))
    numbers = {"samples": sound().tolist(), "sample_rate_hz": RATE_HZ}
    (tmp_path / "clip.json").write_text(json.dumps(numbers))
    command = ["curl", "-s", "-S", "--noproxy", "*", "-H", f"X-API-Key: {TOKEN}", *given]
    done = subprocess.run(
        [*command, f"{served[0]}/v1/classify"],
        cwd=tmp_path,
        input=wav(sound()),
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["label"] in ("click", "tone"), done.stdout


def test_the_client_of_triton_itself(served, sound, in_process):
    triton = pytest.importorskip("tritonclient.http")
    client = triton.InferenceServerClient(served[0].removeprefix("http://"))
    headers = {"X-API-Key": TOKEN}
    assert client.is_server_live()
    assert client.is_model_ready("xmoe", headers=headers)
    (version,) = client.get_model_metadata("xmoe", headers=headers)["versions"]
    tensor = triton.InferInput("samples", [1, len(sound())], "FP32")
    tensor.set_data_from_numpy(sound()[np.newaxis])
    expected = in_process.predict(sound(), RATE_HZ)
    for binary in (True, False):
        result = client.infer(
            "xmoe",
            [tensor],
            model_version=version,
            outputs=[triton.InferRequestedOutput("probabilities", binary_data=binary)],
            headers=headers,
            parameters={"sample_rate_hz": RATE_HZ},
            request_compression_algorithm="gzip",
            response_compression_algorithm="gzip",
        )
        found = result.as_numpy("probabilities").tolist()
        assert found == pytest.approx(list(expected.probabilities.values()), abs=1e-5)
