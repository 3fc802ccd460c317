"""The client against the application behind a real socket."""

import asyncio
import socket
import threading

import pytest
import uvicorn

from xmoe.base.errors import InputError, XmoeError
from xmoe.serve.api import build_app
from xmoe.serve.client import Client
from xmoe.serve.fanout import TooFewExperts
from xmoe.serve.tokens import single

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
