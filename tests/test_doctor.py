"""The doctor names what is broken and how to mend it, and survives libraries that crash."""

import importlib.metadata
from pathlib import Path

import pytest

from xmoe.doctor import (
    ProbeError,
    check_disk,
    check_memory,
    check_packages,
    check_ray,
    check_soundfile,
    check_threads,
    check_torch,
    run_checks,
    run_probe,
)


def broken(_code):
    raise ProbeError("libsomething.so: cannot open shared object file")


def test_probe_returns_the_object_printed_last():
    assert run_probe("print('noise'); print('{\"answer\": 42}')") == {"answer": 42}


def test_probe_survives_a_crash():
    with pytest.raises(ProbeError, match="exit code -11"):
        run_probe("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")


def test_probe_names_the_last_line_of_an_error():
    with pytest.raises(ProbeError, match="ValueError: no"):
        run_probe("raise ValueError('no')")


def test_probe_gives_up_on_a_library_that_hangs():
    with pytest.raises(ProbeError, match="no answer"):
        run_probe("import time; time.sleep(60)", timeout_s=0.2)


def test_broken_libraries_fail_with_a_mend():
    for check in (check_torch(broken)[0], check_soundfile(broken), check_ray(broken)):
        assert check.status == "fail"
        assert "libsomething" in check.found
        assert check.mend


def test_gpu_is_named_when_there_is_one():
    answer = {"torch": "2.11", "torchaudio": "2.11", "threads": 2, "gpus": ["H1"], "gpu_gib": 80.0}
    assert check_torch(lambda _: answer)[1].found == "H1, 80 GiB"
    assert "CPU" in check_torch(lambda _: answer | {"gpus": []})[1].found


def test_a_missing_format_is_a_warning():
    answer = {"libsndfile": "1.0", "good": ["WAV/PCM_16"], "bad": ["MP3/MPEG_LAYER_III"]}
    check = check_soundfile(lambda _: answer)
    assert check.status == "warn"
    assert "MP3" in check.found


def test_ray_that_starts_is_ok():
    check = check_ray(lambda _: {"ray": "2.60.0", "seconds": 3.0})
    assert (check.status, check.found) == ("ok", "ray 2.60.0, started in 3.0 s")


def test_missing_package_is_named(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "scipy":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    good, bad = check_packages()
    assert "numpy" in good.found
    assert (bad.status, bad.found) == ("fail", "missing: scipy")


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path):
    check = check_disk(tmp_path / "runs" / "exp1")
    assert check.status in ("ok", "warn")
    assert str(tmp_path) in check.found


@pytest.mark.parametrize(("free_gib", "status"), [(0.1, "fail"), (1.0, "warn"), (50.0, "ok")])
def test_disk_space(free_gib, status, monkeypatch, tmp_path):
    usage = type("Usage", (), {"free": free_gib * 1024**3})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert check_disk(tmp_path).status == status


def test_folder_that_refuses_files_fails(monkeypatch, tmp_path):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    check = check_disk(tmp_path)
    assert (check.status, check.found) == ("fail", f"cannot write to {tmp_path}: Permission denied")


def test_memory_within_a_containers_limit(monkeypatch):
    limits = {"memory.max": 3.0 * 1024**3, "memory.current": 2.0 * 1024**3}
    monkeypatch.setattr("xmoe.doctor._read_limit", lambda path: limits[path.name])
    check = check_memory()
    assert (check.status, check.found) == ("warn", "1.0 GiB free")


def test_too_many_threads_is_a_warning(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    assert check_threads().status == "warn"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert check_threads().status == "ok"


def test_all_checks_without_ray():
    asked = []

    def probe(code):
        asked.append(code)
        return run_probe("print('{}')") if "ray" in code else broken(code)

    checks = run_checks(Path(), with_ray=False, probe=probe)
    assert [check.name for check in checks] == [
        *("python", "packages", "torch", "soundfile", "disk", "memory", "threads")
    ]
    assert not any("ray.init" in code for code in asked)


def test_the_real_libraries_work_here():
    assert check_torch()[0].status == "ok"
    assert check_soundfile().status == "ok"


@pytest.mark.slow
def test_ray_starts_here():
    assert check_ray().status == "ok"
