"""This machine -> a list of checks: what is installed, what works, and how to mend what does not.

Libraries with native code are tried in a process of their own, so that one that crashes or hangs is
a line in the list and not the end of the doctor. Nothing heavy is imported here.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xmoe.base.errors import XmoeError

Status = Literal["ok", "warn", "fail"]
Probe = Callable[[str], Mapping[str, Any]]

PACKAGES = ("numpy", "scipy", "pyarrow", "pydantic", "scikit-learn", "safetensors", "matplotlib")
INSTALL = "install again: `make setup` in a checkout, or `pip install xmoe`"
GIB = 1024.0**3

_TORCH = """
import json, torch, torchaudio
tone = torch.sin(torch.arange(1600.0))
resampled = torchaudio.functional.resample(tone, 16000, 8000)
cuda = torch.cuda.is_available()
print(json.dumps({
    "torch": torch.__version__, "torchaudio": torchaudio.__version__,
    "resampled": len(resampled), "threads": torch.get_num_threads(),
    "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] * cuda,
    "gpu_gib": torch.cuda.get_device_properties(0).total_memory / 2**30 if cuda else 0.0,
}))
"""

_SOUNDFILE = """
import io, json, numpy as np, soundfile
tone = np.sin(np.arange(8000) / 5).astype(np.float32) / 2
wanted = [("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"),
          ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]
good, bad = [], []
for container, subtype in wanted:
    try:
        file = io.BytesIO()
        soundfile.write(file, tone, 8000, format=container, subtype=subtype)
        file.seek(0)
        assert len(soundfile.read(file)[0]) >= 8000
        good.append(container + "/" + subtype)
    except Exception as error:
        bad.append(container + "/" + subtype)
print(json.dumps({"soundfile": soundfile.__version__, "good": good, "bad": bad,
                  "libsndfile": soundfile.__libsndfile_version__}))
"""

_RAY = """
import json, time, ray
start = time.monotonic()
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
         logging_level="error", object_store_memory=80 * 2**20)
answer = ray.get(ray.remote(lambda: 42).remote(), timeout=60)
print(json.dumps({"ray": ray.__version__, "answer": answer, "seconds": time.monotonic() - start}))
ray.shutdown()
"""


@dataclass(frozen=True)
class Check:
    """One line of the doctor: ``found`` in words, and how to ``mend`` what is not ok."""

    name: str
    status: Status
    found: str
    mend: str = ""


class ProbeError(XmoeError):
    """A library failed in its own process."""


def run_probe(code: str, *, timeout_s: float = 90.0) -> Mapping[str, Any]:
    """Run ``code`` in a fresh interpreter and return the JSON object that it prints last.

    Raises ProbeError with the last line of what went wrong.
    """
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"no answer within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ProbeError(lines[-1])
    answer: Mapping[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def run_checks(folder: Path, *, with_ray: bool = True, probe: Probe = run_probe) -> list[Check]:
    """Return every check; ``folder`` is where runs will be written."""
    checks = [check_python(), *check_packages(), *check_torch(probe), check_soundfile(probe)]
    if with_ray:
        checks.append(check_ray(probe))
    return [*checks, check_disk(folder), check_memory(), check_threads()]


def check_python() -> Check:
    """Say which interpreter this is; an older one cannot get as far as here."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "ok", found)


def check_packages() -> list[Check]:
    """Check that the plain packages are there, and say which versions."""
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    checks = [Check("packages", "ok", ", ".join(versions))] if versions else []
    if missing:
        checks.append(Check("packages", "fail", f"missing: {', '.join(missing)}", INSTALL))
    return checks


def check_torch(probe: Probe = run_probe) -> list[Check]:
    """Check that torch and torchaudio load and fit each other, and which GPU there is."""
    try:
        found = probe(_TORCH)
    except ProbeError as error:
        mend = f"torch and torchaudio must be of one release (2.11); {INSTALL}"
        return [Check("torch", "fail", error.what, mend)]
    text = f"torch {found['torch']}, torchaudio {found['torchaudio']}, {found['threads']} threads"
    checks = [Check("torch", "ok", text)]
    if found["gpus"]:
        gpu = f"{', '.join(found['gpus'])}, {found['gpu_gib']:.0f} GiB"
        return [*checks, Check("gpu", "ok", gpu)]
    return [*checks, Check("gpu", "ok", "none; xmoe runs on the CPU")]


def check_soundfile(probe: Probe = run_probe) -> Check:
    """Check which formats can be written and read back."""
    try:
        found = probe(_SOUNDFILE)
    except ProbeError as error:
        return Check("soundfile", "fail", error.what, INSTALL)
    text = f"libsndfile {found['libsndfile']}: {', '.join(found['good'])}"
    if found["bad"]:
        mend = "convert those files to WAV or FLAC, or install a newer soundfile"
        return Check("soundfile", "warn", f"{text}; not {', '.join(found['bad'])}", mend)
    return Check("soundfile", "ok", text)


def check_ray(probe: Probe = run_probe) -> Check:
    """Check that Ray starts on this machine and runs a task."""
    try:
        found = probe(_RAY)
    except ProbeError as error:
        mend = "use --local for training without Ray; see the logs under /tmp/ray"
        return Check("ray", "fail", error.what, mend)
    return Check("ray", "ok", f"ray {found['ray']}, started in {found['seconds']:.1f} s")


def check_disk(folder: Path) -> Check:
    """Check that runs can be written to ``folder`` and that there is room for them."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free_gib = shutil.disk_usage(existing).free / GIB
    except OSError as error:
        mend = "name a folder that you may write to"
        return Check("disk", "fail", f"cannot write to {existing}: {error.strerror}", mend)
    found = f"{free_gib:.1f} GiB free at {existing}"
    if free_gib < 0.5:
        return Check("disk", "fail", found, "free some space: a run needs up to 0.5 GiB")
    if free_gib < 5.0:
        return Check("disk", "warn", found, "long recordings need room for cached spectrograms")
    return Check("disk", "ok", found)


def check_memory() -> Check:
    """Check the memory that is free, within a container's limit where there is one."""
    import psutil

    free_gib = psutil.virtual_memory().available / GIB
    limit = _read_limit(Path("/sys/fs/cgroup/memory.max"))
    used = _read_limit(Path("/sys/fs/cgroup/memory.current"))
    if limit is not None:
        free_gib = min(free_gib, (limit - (used or 0.0)) / GIB)
    found = f"{free_gib:.1f} GiB free"
    if free_gib < 2.0:
        return Check("memory", "warn", found, "use --local and a smaller --batch-size")
    return Check("memory", "ok", found)


def check_threads() -> Check:
    """Check that the number of threads asked for is not more than the cores we may use."""
    cores = _usable_cores()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    found = f"{cores} cores, OMP_NUM_THREADS {asked or 'not set'}"
    if asked.isdigit() and int(asked) > cores:
        return Check("threads", "warn", found, f"set OMP_NUM_THREADS to {cores} or less")
    return Check("threads", "ok", found)


def _usable_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def _read_limit(path: Path) -> float | None:
    """Return the number in a control-group file; None where there is none."""
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
