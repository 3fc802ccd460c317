"""Labelled recordings -> what a run answers to each, on Ray Data: an actor pool, blocks of clips.

Each actor holds one classifier and one thread, fetches the recordings of its blocks where they are
in an object store and not on its node, and sends back numbers alone. A clip is answered by itself
wherever that is, and blocks keep their order, so the figures are those of one process.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.quarantine import Quarantined
from xmoe.base.device import choose_device
from xmoe.base.errors import XmoeError
from xmoe.base.progress import Progress
from xmoe.jobs.infer import rebuild_error
from xmoe.jobs.session import data_session, fetch_on_node, node_here, ray_errors, run_on_actors
from xmoe.pipeline.evaluation import Answered, Answerer, answer_here
from xmoe.predict.predictor import Predictor
from xmoe.profile.table import examples_to_table, table_to_examples
from xmoe.run.remote import fetched_for_predicting

LOOP_MAX_CLIPS = 2_000
BLOCK_CLIPS = 64
OUTCOME = pa.schema(
    [
        ("number", pa.int64()),
        ("answered", pa.binary()),
        ("bad", pa.string()),
        ("error", pa.string()),
    ]
)


def choose_answerer(
    run: str, *, engine: Literal["auto", "loop", "ray"] = "auto", workers: int | None = None
) -> Answerer:
    """What answers clips with the engine asked for, or the one that suits their number.

    ``run`` is a folder that every node sees, or an address. ``workers`` is the number of actors: as
    many as processors (or GPUs) by default. Up to 2000 clips one process ends before Ray's actors
    have loaded the classifier.
    """

    def answer(
        predictor: Predictor, dataset: Dataset, examples: Sequence[Example], *, progress: Progress
    ) -> tuple[Answered | None, list[Quarantined]]:
        if engine == "loop" or (engine == "auto" and len(examples) <= LOOP_MAX_CLIPS):
            return answer_here(predictor, dataset, examples, progress=progress)
        job = {
            "run": run,
            "device": predictor.device.type,
            "dataset": replace(dataset, examples=()),
        }
        return answer_on_ray(job, examples, workers=workers, progress=progress)

    return answer


def answer_on_ray(
    job: dict[str, Any], examples: Sequence[Example], *, workers: int | None, progress: Progress
) -> tuple[Answered | None, list[Quarantined]]:
    """The answers to clips in their order, on the Ray at hand or a local one.

    Raises the XmoeError that an actor met, and XmoeError where Ray itself fails.
    """
    firsts = range(0, len(examples), BLOCK_CLIPS)
    tables = [number_block(first, examples[first : first + BLOCK_CLIPS]) for first in firsts]
    found: dict[int, tuple[Answered | None, list[Quarantined]]] = {}
    mend = "run it again, or with --engine loop to see more"
    with data_session(), ray_errors("the job", where=job["run"], mend=mend):
        settings = {**job, "home": node_here()}
        on_gpu = job["device"] != "cpu"
        for table in run_on_actors(AnswerActor, settings, tables, on_gpu=on_gpu, most=workers):
            found |= read_outcomes(table)
            progress("evaluate", min(len(found) * BLOCK_CLIPS, len(examples)), len(examples))
    blocks = [found[first] for first in firsts]
    answered = [block for block, _ in blocks if block is not None]
    return Answered.join(answered) if answered else None, [row for _, bad in blocks for row in bad]


class AnswerActor:
    """What each actor of the pool runs; an error of ours travels as a value, with its mend."""

    def __init__(self, run: str, device: Any, dataset: Dataset, home: str) -> None:
        import torch

        torch.set_num_threads(1)
        self.run, self.device, self.dataset, self.home = run, device, dataset, home
        self.predictor: Predictor | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        number = table["number"][0].as_py()
        row = {"number": number, "answered": None, "bad": "[]", "error": None}
        try:
            answered, bad = self._answer(table_to_examples(table.drop_columns(["number"])))
            row["answered"] = None if answered is None else to_bytes(answered)
            row["bad"] = json.dumps([astuple(one) for one in bad])
        except XmoeError as error:
            row["error"] = json.dumps(error.as_dict())
        return pa.Table.from_pylist([row], schema=OUTCOME)

    def _answer(self, examples: list[Example]) -> tuple[Answered | None, list[Quarantined]]:
        if self.predictor is None:
            with fetched_for_predicting(self.run) as folder:
                self.predictor = Predictor.load(folder.path, device=choose_device(self.device))
        block = replace(self.dataset, examples=tuple(examples))
        return answer_here(self.predictor, fetch_on_node(block, self.home), examples)


def number_block(first: int, examples: Sequence[Example]) -> pa.Table:
    """Clips as a table that says which is the first of them."""
    table = examples_to_table(examples)
    return table.append_column("number", pa.array([first] * len(examples), pa.int64()))


def read_outcomes(table: pa.Table) -> dict[int, tuple[Answered | None, list[Quarantined]]]:
    """What actors sent back, by the first clip of each block; raises an error of ours."""
    found = {}
    for row in table.to_pylist():
        if row["error"] is not None:
            raise rebuild_error(json.loads(row["error"]))
        bad = [Quarantined(*values) for values in json.loads(row["bad"])]
        data = row["answered"]
        found[row["number"]] = (None if data is None else from_bytes(data), bad)
    return found


def to_bytes(answered: Answered) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{**vars(answered), "clip_ids": np.array(answered.clip_ids)})
    return buffer.getvalue()


def from_bytes(data: bytes) -> Answered:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        columns = dict(arrays)
    return Answered(**{**columns, "clip_ids": tuple(columns["clip_ids"].tolist())})
