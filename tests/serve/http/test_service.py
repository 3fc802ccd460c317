"""Where the work on a recording is done: a small one in the event loop, others beside it."""

import asyncio
import tempfile
import threading

import pytest
from filelock import FileLock

from xmoe.serve.http import service as subject
from xmoe.serve.http.corrections import Correction
from xmoe.serve.http.service import count_samples
from xmoe.serve.schemas import Options


def threads_used(service, data, monkeypatch):
    """Answer for a recording; return its label and the threads in which it was decoded and cut."""
    seen = set()
    decode, cut = service.decode, service.router.cut

    def note(function):
        def run(*args, **options):
            seen.add(threading.current_thread())
            return function(*args, **options)

        return run

    monkeypatch.setattr(service, "decode", note(decode))
    monkeypatch.setattr(service.router, "cut", note(cut))
    answer = asyncio.run(service.classify_bytes(data, Options()))
    return answer.label, seen


@pytest.mark.parametrize("small_samples", [0, 1 << 15])
def test_small_recordings_stay_in_the_event_loop(serve_run, wav, sound, monkeypatch, small_samples):
    service = serve_run(router={"small_samples": small_samples})
    label, seen = threads_used(service, wav(sound(0.4)), monkeypatch)
    inside = threading.current_thread() in seen
    assert label in service.router.config.classes
    assert len(seen) == 1
    assert inside == (small_samples > 0)


def test_long_recordings_do_not(serve_run, wav, sound, monkeypatch):
    _, seen = threads_used(serve_run(), wav(sound(12.0)), monkeypatch)
    assert threading.current_thread() not in seen


def test_where_they_are_done_changes_no_answer(serve_run, wav, sound):
    answers = [
        asyncio.run(
            serve_run(router={"small_samples": small}).classify_bytes(wav(sound(0.4)), Options())
        )
        for small in (0, 1 << 15)
    ]
    assert answers[0].probabilities == answers[1].probabilities


def test_only_files_that_cannot_grow_count_as_small(wav, sound):
    data = wav(sound(0.4))
    assert count_samples(data) == len(data) // 2
    assert count_samples(b"fLaC" + data[4:]) is None
    assert count_samples(b"") is None


def test_run_at_an_address_is_answered_and_explained_and_no_copy_stays(
    serve_run, tiny_run, wav, sound, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    service = serve_run(run=f"file://{tiny_run}")
    answer = asyncio.run(service.classify_bytes(wav(sound()), Options(explain=True)))
    assert answer.explanation is not None
    assert list(tmp_path.iterdir()) == []


SAID = Correction(labels=("tone",), answer=("click",), probability=0.6)


def test_a_folder_of_corrections_that_hangs_holds_up_no_answer(serve_run, wav, sound, tmp_path):
    router = {"small_samples": 0, "decode_threads": 1}
    service = serve_run(corrections={"folder": str(tmp_path)}, router=router)
    data = wav(sound(0.4))

    async def both():
        with FileLock(tmp_path / ".lock"):
            said = asyncio.create_task(service.correct(data, SAID, ""))
            await asyncio.sleep(0.3)
            async with asyncio.timeout(10):
                await service.classify_bytes(data, Options())
            assert not said.done()
        return await said

    assert asyncio.run(both()).label == "tone"


def test_sounds_of_the_run_are_read_once(serve_run, wav, sound, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(subject, "read_known", lambda *given: asked.append(given) or frozenset())
    service = serve_run(corrections={"folder": str(tmp_path)})

    async def twice():
        for seed in range(2):
            await service.correct(wav(sound(0.4, seed)), SAID, "")

    asyncio.run(twice())
    assert len(asked) == 1
