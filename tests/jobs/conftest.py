"""A training job of noise with one loud bin per class, and a small Ray to train it on."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fixtures.closed import closed_job, scenes
from tests.fixtures.runs import tiny_config
from xmoe.base.files import write_json
from xmoe.run.folder import RunFolder
from xmoe.training.session import TrainingJob

__all__ = ["closed_job", "scenes"]

HERE = Path(__file__).parent
EPOCHS = 3
CPUS = 2


def write_store(path, config, count):
    """Write a store of noise with one loud bin per class."""
    rng = np.random.default_rng(count)
    frames = config.spectro.num_frames
    values = rng.normal(-4.0, 0.3, (count, frames, config.spectro.num_bins))
    for index in range(count):
        values[index, :, 3 + 8 * (index % 2)] += 2.0
    np.save(path.with_suffix(".npy"), values.reshape(count * frames, -1).astype(np.float16))
    index = {
        "clip_ids": [f"{i}.wav" for i in range(count)],
        "offsets": [frames * i for i in range(count + 1)],
        "firsts": list(range(count + 1)),
        "targets": [i % 2 for i in range(count)],
        "spectro": config.spectro.model_dump(mode="json"),
    }
    write_json(path.with_suffix(".json"), index)
    return path


def make_job(root, *, clips, **train):
    """Return a job below ``root`` on so many clips for training."""
    config = tiny_config(
        ("low", "high"),
        experts=("broadband", "low", "high"),
        masked_experts=(),
        k_max=1,
        spectro={"segment_s": 0.32},
        train={"batch_size": 8, "device": "cpu"} | train,
    )
    run = RunFolder(root / "run")
    run.write_record("run_config.json", config)
    for name, count in (("train", clips), ("val", 6)):
        write_store(root / name, config, count)
    return TrainingJob(run.path, config, root)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job of three epochs on sixteen clips."""
    return make_job(tmp_path_factory.mktemp("job"), clips=16, epochs=EPOCHS)


@pytest.fixture(scope="session")
def write_job():
    """The function that makes a job."""
    return make_job


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, Any, Any]:
    """Stop whatever Ray runs after the last test here."""
    result = yield
    if nextitem is None or HERE not in nextitem.path.parents:
        import ray

        ray.shutdown()
    return result


@pytest.fixture
def local_ray() -> None:
    """One small Ray for every test here; one that runs already is used."""
    import ray

    if not ray.is_initialized():
        ray.init(num_cpus=CPUS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


@pytest.fixture
def no_ray() -> None:
    """No Ray, for what starts its own."""
    import ray

    ray.shutdown()


@pytest.fixture
def as_many_threads():
    """As many threads here as the only worker of a job has there."""
    before = torch.get_num_threads()
    torch.set_num_threads(CPUS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def elsewhere():
    """The function that returns a job with another run folder and other settings of training."""

    def change(job, run, **train):
        config = job.config.model_copy(update={"train": job.config.train.model_copy(update=train)})
        RunFolder(run).write_record("run_config.json", config)
        return replace(job, run=run, config=config)

    return change


@pytest.fixture
def assert_same_weights():
    """The function that asserts that two runs hold the same bits in their checkpoints."""

    def check(one, other):
        for which in ("best", "last"):
            folders = [RunFolder(run).checkpoint_folder(which) for run in (one, other)]
            names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
            assert names[0] == names[1]
            for name in names[0]:
                if name.endswith(".safetensors"):
                    assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()

    return check
