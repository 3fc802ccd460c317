"""Programs of ``torch.export`` (.pt2) and TorchScript: they can run code, so they open on trust.

A program is called with one argument. ``output`` is a key where it answers with a dict, else the
place among its outputs, 0 where there is one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from xmoe.backbones.formats import FloatArray, Runner
from xmoe.base.backbone import BackboneCard, BackboneFile
from xmoe.base.errors import ConfigError
from xmoe.frontend.threads import one_thread

# Threads of torch are set for the whole process, so one network at a time may set them.
_THREADS = Lock()


def open_export(card: BackboneCard, file: BackboneFile, path: Path, threads: int) -> Runner:
    return run_program(_open(lambda: torch.export.load(path).module(), path), file, path, threads)


def open_script(card: BackboneCard, file: BackboneFile, path: Path, threads: int) -> Runner:
    return run_program(_open(lambda: torch.jit.load(path, "cpu").eval(), path), file, path, threads)


def run_program(
    program: Callable[[torch.Tensor], Any], file: BackboneFile, path: Path, threads: int
) -> Runner:
    """A runner that calls ``program`` with one tensor and reads the output that the file names."""

    def run(sound: FloatArray) -> FloatArray:
        with torch.inference_mode(), hold_threads(threads):
            return pick_output(program(torch.from_numpy(sound)), file, path)

    return run


def pick_output(outputs: Any, file: BackboneFile, path: Path) -> FloatArray:
    """One output by its key or place as float32; ConfigError where there is none such."""
    if isinstance(outputs, torch.Tensor):
        outputs = (outputs,)
    try:
        found = outputs[file.output]
        result: FloatArray = (found[-1] if isinstance(found, tuple) else found).float().numpy()
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        there = list(outputs) if hasattr(outputs, "keys") else f"0 to {len(outputs) - 1}"
        raise ConfigError(
            f"its outputs are {there}, not {file.output!r}", where=str(path)
        ) from error
    return result


@contextmanager
def hold_threads(threads: int) -> Iterator[None]:
    """Let torch use ``threads`` meanwhile, and nobody else change that."""
    with _THREADS, one_thread():
        torch.set_num_threads(threads)
        yield


def _open(load: Callable[[], Any], path: Path) -> Any:
    try:
        with warnings.catch_warnings():  # torch would rather have other formats; the user has this
            warnings.simplefilter("ignore")
            return load()
    except Exception as error:  # torch throws what the reader of each part throws
        mend = "write it again with this torch: " + torch.__version__
        raise ConfigError(f"torch cannot open it: {error}", where=str(path), mend=mend) from error
