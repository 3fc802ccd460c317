"""A run -> a folder for ``xmoe_lite``: graphs, tables, decisions, networks, and the reader itself.

model.json  router.json          what the run is, and how it decides
stem.onnx  expert-<name>.onnx    graphs from power spectrograms to answers
<the same names>.npz             their front ends' tables; of a network, its head
pretrained/...                   networks as they are; of LiteRT files, the output that is read
xmoe_lite/                       the reader
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from xmoe.backbones.files import import_extra
from xmoe.backbones.litert import read_with_output
from xmoe.base.config import BackboneSpec, ExpertSpec, KernelsSpec, RunConfig
from xmoe.base.errors import ConfigError
from xmoe.base.files import storage_errors
from xmoe.base.task import task_of
from xmoe.base.version import VERSION
from xmoe.experts.backbone import BackboneExpert
from xmoe.experts.kernels import KernelsExpert
from xmoe.export.graphs import GlanceGraph, KernelsGraph, to_onnx
from xmoe.export.tables import Record, Tables, describe_frontend, describe_router
from xmoe.glance.spans import window_edges_s
from xmoe.glance.stem import DECIMATION, stem_columns
from xmoe.mixture.promise_router import PromiseRouter
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import ROUTER, RunFolder, expert_part
from xmoe.run.pretrained import PRETRAINED

FORMAT = 1
READER = "xmoe_lite"
READ_FORMATS = ("onnx", "litert")


@dataclass(frozen=True)
class Exported:
    """The folder, the bytes of each file, and the terms of the networks that were copied."""

    folder: Path
    sizes: dict[str, int]
    terms: tuple[str, ...]


def export_run(run: Path, out: Path) -> Exported:
    """Write a run to the folder ``out``, which must be new; ConfigError where it cannot be."""
    import_extra("onnx", "export")
    config = RunFolder(run).read_config()
    refuse(config, str(run))
    if out.exists() and any(out.iterdir()):
        raise ConfigError("there are files already", where=str(out), mend="name another --out")
    predictor = Predictor.load(run)
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        experts = [_write_expert(predictor, spec, out) for spec in config.model.experts]
        stem = _write_stem(predictor, out)
        _write_router(predictor, out)
        (spec,) = find_spec(READER).submodule_search_locations  # type: ignore[union-attr,misc]
        shutil.copytree(spec, out / READER, ignore=shutil.ignore_patterns("__pycache__"))
        # Last: without it the folder is none.
        _write_json(out / "model.json", _describe(config) | {"stem": stem, "experts": experts})
    files = sorted(path for path in out.rglob("*") if path.is_file())
    sizes = {path.relative_to(out).as_posix(): path.stat().st_size for path in files}
    networks = [spec.card for spec in config.model.experts if isinstance(spec, BackboneSpec)]
    return Exported(out, sizes, tuple(sorted({f"{card.name}: {card.terms}" for card in networks})))


def refuse(config: RunConfig, where: str) -> None:
    """Raise ConfigError where a run holds what the reader cannot do."""
    model = config.model
    if model.stem != "kernels" or model.router != "promise":
        mend = "train in closed form: xmoe train --fit closed"
        raise ConfigError("a mixture trained by gradient is not exported", where=where, mend=mend)
    if config.routing.window_fraction < 1.0 or config.routing.selector == "random":
        what = "experts that hear only a part of each segment are not exported"
        raise ConfigError(what, where=where, mend="choose again with xmoe calibrate RUN")
    for spec in model.experts:
        remove = f"take it out of a copy of the run: xmoe expert remove COPY {spec.name}"
        if not isinstance(spec, KernelsSpec | BackboneSpec):
            what = f"expert {spec.name} was trained by gradient, and is not exported"
            raise ConfigError(what, where=where, mend=remove)
        if isinstance(spec, BackboneSpec) and spec.card.format not in READ_FORMATS:
            what = f"expert {spec.name} asks a network of format {spec.card.format}"
            mend = f"only {' and '.join(READ_FORMATS)} are read there; {remove}"
            raise ConfigError(what, where=where, mend=mend)


def _describe(config: RunConfig) -> Record:
    spectro = config.spectro
    columns, width = stem_columns(spectro.num_frames), config.model.window_frames
    edges = window_edges_s(columns, width, spectro.num_frames, 1.0 / spectro.frame_rate_hz)
    return {
        "format": FORMAT,
        "xmoe_version": VERSION,
        "classes": list(config.classes),
        "exclusive": task_of(config.model.task).exclusive,
        "segment_s": spectro.segment_s,
        "segment_hop_s": spectro.segment_hop_s,
        "window_edges_s": np.array(edges, np.float32).tolist(),
        "uncertain_below": config.routing.uncertain_below,
    }


def _write_stem(predictor: Predictor, out: Path) -> Record:
    model, frontend = predictor.model, predictor.frontend
    record, tables = describe_frontend(frontend)
    graph = GlanceGraph(model, frontend, predictor.config.routing)
    shape = (frontend.num_bins, frontend.config.num_frames)
    content = to_onnx(graph, shape, ("stem", "evidence", "scores"), frames=True)
    _write_part(out, "stem", tables, content)
    return record


def _write_router(predictor: Predictor, out: Path) -> None:
    model = predictor.model
    assert isinstance(model.router, PromiseRouter)
    routing = predictor.config.routing
    _write_json(out / f"{ROUTER}.json", describe_router(model.router, routing, model.first_most))


def _write_expert(predictor: Predictor, spec: ExpertSpec, out: Path) -> Record:
    expert, part = predictor.model.experts[spec.name], expert_part(spec.name)
    record: Record = {"name": spec.name, "kind": spec.kind}
    if isinstance(expert, KernelsExpert):
        frontend = expert.frontend
        own, tables = describe_frontend(frontend)
        shape = (frontend.num_bins, frontend.config.num_frames)
        _write_part(out, part, tables, to_onnx(KernelsGraph(expert), shape, ("logits",)))
        return record | {"frontend": own}
    assert isinstance(expert, BackboneExpert)
    head = {name: values.numpy() for name, values in expert.head.state_dict().items()}
    _write_part(out, part, head)
    return record | _write_network(predictor.config, expert.spec, out)


def _write_network(config: RunConfig, spec: BackboneSpec, out: Path) -> Record:
    folder = f"{PRETRAINED}/{Path(spec.folder).name}"
    for file in spec.card.files:
        source, target = Path(spec.folder, file.path), out / folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if spec.card.format == "litert" and file.output is not None:
            target.write_bytes(read_with_output(file, source))
        else:
            shutil.copyfile(source, target)
    window_s = config.model.window_frames * DECIMATION / config.spectro.frame_rate_hz
    return {
        "card": spec.card.model_dump(mode="json"),
        "folder": folder,
        "windows": spec.windows,
        "width": max(round(spec.card.span_s / window_s), 1),
    }


def _write_part(out: Path, part: str, tables: Tables, graph: bytes = b"") -> None:
    arrays: Any = tables
    np.savez_compressed(out / f"{part}.npz", **arrays)
    if graph:
        (out / f"{part}.onnx").write_bytes(graph)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")
