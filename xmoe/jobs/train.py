"""A training job -> fitted weights on Ray Train workers, with the loop that also runs without Ray.

Every worker opens the same stores and takes its share of each global batch; gradients are averaged
by DistributedDataParallel. Worker 0 validates and writes the checkpoints of the run folder, which
every node must see. When a worker or its node dies, all are started again, fewer where the job
allows it, and go on from the last checkpoint of the run folder. Ray's own record of the job decides
nothing and is thrown away.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from xmoe.base.config import RunConfig
from xmoe.base.errors import ConfigError, XmoeError
from xmoe.base.progress import Progress, polling, silent
from xmoe.jobs.session import ray_session
from xmoe.run.folder import RunFolder
from xmoe.training.session import TrainingJob, describe_row, read_history

MAX_FAILURES = 3
POLL_S = 0.5


def train_with_ray(job: TrainingJob, progress: Progress = silent) -> None:
    """Run a job on ``job.config.train.num_workers`` Ray Train workers.

    Raises ConfigError where there is no room for them or too little for each to do, XmoeError when
    they fail more often than three times.
    """
    from ray.train import FailureConfig, ScalingConfig
    from ray.train import RunConfig as RayRunConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    train = job.config.train
    fewest, most = train.fewest_workers, train.most_workers
    count: Any = most if fewest == most else (fewest, most)  # Ray's types know of numbers only
    check_batch(train.batch_size, most)
    with ray_session(), follow_history(RunFolder(job.run), progress):
        cpus = share_of_cpus(resources_of_nodes("CPU"), fewest, most)
        use_gpu = train.device != "cpu" and sum(resources_of_nodes("GPU")) >= fewest
        record = job.stores / "ray"
        shutil.rmtree(record, ignore_errors=True)  # Ray refuses to go on from one that is torn
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={**job_to_dict(job), "threads": cpus},
            scaling_config=ScalingConfig(
                num_workers=count,
                use_gpu=use_gpu,
                resources_per_worker={"CPU": cpus},
            ),
            run_config=RayRunConfig(
                name="train",
                storage_path=str(record.resolve()),
                failure_config=FailureConfig(max_failures=MAX_FAILURES),
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            last = str(error).strip().splitlines()[-1]
            raise XmoeError(
                f"training failed on Ray: {last}",
                where=str(job.run),
                mend="what was reached is kept; go on with --resume, or with --local to see more",
            ) from error


def resources_of_nodes(name: str) -> list[int]:
    """How much of a resource each living node has."""
    import ray

    return [int(node["Resources"].get(name, 0)) for node in ray.nodes() if node["Alive"]]


def share_of_cpus(cpus: Sequence[int], fewest: int, most: int) -> int:
    """The processors of each worker on nodes with ``cpus``: as many as fit ``most`` workers.

    Raises ConfigError where there are fewer processors than the ``fewest`` workers.
    """
    if fewest > sum(cpus):
        raise ConfigError(
            f"{fewest} workers, but Ray has {sum(cpus)} processors: some would wait for ever",
            where="--workers",
            mend=f"ask for at most {sum(cpus)}, or connect to a larger cluster (RAY_ADDRESS)",
        )
    shares = range(max(cpus), 0, -1)  # a worker lives on one node
    return next((share for share in shares if sum(n // share for n in cpus) >= most), 1)


def check_batch(batch_size: int, workers: int) -> None:
    """Raise ConfigError where a worker would get fewer than two clips of a batch.

    Batch normalisation needs two.
    """
    if batch_size < 2 * workers:
        raise ConfigError(
            f"batches of {batch_size} clips are too small for {workers} workers",
            where="--batch-size",
            mend=f"ask for at least {2 * workers}, or for fewer workers",
        )


def train_worker(settings: dict[str, Any]) -> None:
    """Run one worker of a job: what Ray Train calls on each."""
    import ray.train
    import torch

    from xmoe.training.batches import Share
    from xmoe.training.loop import EpochReport
    from xmoe.training.session import make_trainer, run_epochs

    job = replace(dict_to_job(settings), resume=True)
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(int(settings["threads"]))

    def wrap(model: torch.nn.Module) -> torch.nn.Module:
        from ray.train.torch import prepare_model

        unused = bool(job.config.model.masked_experts)
        wrapped: torch.nn.Module = prepare_model(
            model, parallel_strategy_kwargs={"find_unused_parameters": unused}
        )
        return wrapped

    def report(epoch: EpochReport) -> None:
        ray.train.report({"epoch": epoch.epoch, **epoch.figures})

    from ray.train.torch import get_device

    trainer = make_trainer(job, share=Share(rank, world_size), device=get_device(), wrap=wrap)
    run_epochs(trainer, job, on_epoch=report, writes=rank == 0)


def job_to_dict(job: TrainingJob) -> dict[str, Any]:
    return {
        "run": str(job.run.resolve()),
        "config": job.config.model_dump(mode="json"),
        "stores": str(job.stores.resolve()),
    }


def dict_to_job(values: dict[str, Any]) -> TrainingJob:
    return TrainingJob(
        run=Path(values["run"]),
        config=RunConfig.model_validate(values["config"]),
        stores=Path(values["stores"]),
    )


@contextmanager
def follow_history(folder: RunFolder, progress: Progress) -> Iterator[None]:
    """Show every epoch that the workers write down, while the job runs."""
    shown = 0

    def look() -> None:
        nonlocal shown
        rows = read_history(folder)
        if rows and rows[-1]["epoch"] != shown:
            shown = rows[-1]["epoch"]
            progress("train", shown, rows[-1]["epochs"], describe_row(rows[-1]))

    try:
        with polling(look, every_s=POLL_S):
            yield
    finally:
        look()
