"""The section of ``gpu.py`` on training: the trainer's own step, its parts, and a whole epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from gpu_bench import (
    CPU,
    Bench,
    Row,
    arithmetic,
    differ,
    failed,
    make_config,
    make_store,
    note_busy,
)
from torch import Tensor, nn

from xmoe.base.config import RunConfig, TrainConfig
from xmoe.features.store import SpectrogramStore
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.spec_augment import AugmentConfig, augment_batch
from xmoe.glance.stem import stem_columns
from xmoe.mixture.moe import MoE
from xmoe.training.batches import make_batch
from xmoe.training.loop import Trainer
from xmoe.training.losses import compute_losses, draw_step

COMPILE_S = 75.0  # what a compilation may take, for the deadline
Compile = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Mode:
    """How the training pass is computed, and how far its gradient may be from the CPU's."""

    name: str
    allowed: float
    precision: str = "fp32"
    tf32: bool = False
    wrap: Compile | None = None


FP32 = Mode("fp32", 1e-2)
BF16 = Mode("bf16", 0.5, "bf16")
AS_IT_COMES = Mode("as it comes", 0.5, TrainConfig().precision)
MODES = (FP32, Mode("tf32", 5e-2, tf32=True), BF16)
COMPILED = replace(BF16, name="bf16, compiled", wrap=torch.compile)
GRAPHED = replace(
    BF16,
    name="bf16, compiled, graphs",
    wrap=lambda module: torch.compile(module, mode="reduce-overhead"),
)


class Step:
    """One training step that can be taken again and again: the same batch and the same draws."""

    def __init__(self, config: RunConfig, store: SpectrogramStore, device: torch.device) -> None:
        self.config, self.store, self.device = config, store, device
        frontend = build_frontend(config.spectro)
        picked = [clip % len(store) for clip in range(config.train.batch_size)]
        generator = torch.Generator().manual_seed(1)
        self.spec, self.targets = make_batch(store, frontend, config, picked, generator)

    def build(self, mode: Mode) -> Trainer:
        """Return a trainer of fresh weights, the same for each."""
        train = self.config.train.model_copy(update={"precision": mode.precision})
        config = self.config.model_copy(update={"train": train})
        trainer = Trainer(
            config,
            build_frontend(config.spectro),
            self.store,
            self.store,
            device=self.device,
            wrap=mode.wrap or (lambda module: module),
        )
        trainer.wrapped.train()
        return trainer

    def take(self, trainer: Trainer) -> float:
        """Take the step and return its loss."""
        generator = torch.Generator().manual_seed(2)
        figures, _ = trainer._step(self.spec.to(self.device), self.targets, generator)
        return figures["loss"]

    def look(self, trainer: Trainer) -> tuple[Tensor, float]:
        """Take the step and return the gradient of all weights, as one vector, and the loss."""
        loss = self.take(trainer)
        return gradient_of(trainer.model), loss


def gradient_of(module: nn.Module) -> Tensor:
    """Return the gradient of all weights as one vector, on the CPU."""
    grads = [p.grad.flatten().cpu() for p in module.parameters() if p.grad is not None]
    return torch.cat(grads)


def relative(found: Tensor, expected: Tensor) -> float:
    """Return how far a gradient is from the expected one, as a share of its length."""
    return float((found - expected).norm() / expected.norm())


def fit(bench: Bench) -> MoE:
    """Return a mixture after a few hundred steps on the device, with its averaged weights."""
    config = make_config(bench)
    train = config.train.model_copy(update={"epochs": bench.size(15, 1)})
    config = config.model_copy(update={"train": train})
    step = Step(config, make_store(config, bench.size(512, 8)), bench.device)
    trainer = step.build(FP32)
    while trainer.epoch < trainer.epochs:
        trainer.train_epoch()
    return trainer.averaged


def measure_training(bench: Bench) -> Iterator[Row]:
    """Steps of the trainer: stem, router, eight experts twice, losses, AdamW, moving average."""
    config = make_config(bench)
    store = make_store(config, bench.size(512, 8))
    yield from measure_epoch(bench, config, store)
    yield from measure_parts(bench, store)
    for batch, compiled in ((32, (COMPILED, GRAPHED)), (512, (COMPILED,))):
        if bench.quick and batch > 32:
            continue
        train = config.train.model_copy(update={"batch_size": bench.size(batch, 8)})
        sized = config.model_copy(update={"train": train})
        mine, theirs = Step(sized, store, CPU), Step(sized, store, bench.device)
        trainer = mine.build(FP32)
        expected = mine.look(trainer)
        cpu = bench.rate(lambda m=mine, t=trainer: m.take(t), 1, CPU)
        for mode in MODES + (() if bench.quick else compiled):
            row = Row(f"training step of {sized.train.batch_size}, {mode.name}", "steps/s", cpu)
            if bench.left_s() < (COMPILE_S if mode.wrap else 5.0):
                yield replace(row, note="not reached")
                continue
            try:
                yield measure_step(bench, theirs, mode, row, expected)
            except Exception as error:
                if mode.wrap is None:
                    raise
                yield failed(row.what, error)


def measure_parts(bench: Bench, store: SpectrogramStore) -> Iterator[Row]:
    """Forward and backward of the stem alone and of one expert alone, on its band of the map."""
    config = make_config(bench)
    train = config.train.model_copy(update={"batch_size": bench.size(512, 8)})
    step = Step(config.model_copy(update={"train": train}), store, CPU)
    model = step.build(FP32).model
    with torch.no_grad():
        features = model.stem.map_features(step.spec)
    parts: dict[str, tuple[nn.Module, Tensor]] = {
        "stem": (model.stem, step.spec),
        "expert broadband": (model.experts["broadband"], features),
    }
    for name, (part, seen) in parts.items():
        expected = Pass(model, part, seen, step.targets, CPU)
        cpu = bench.rate(expected.run, len(seen), CPU)
        for mode in MODES:
            with arithmetic(mode.tf32):
                found = Pass(model, part, seen, step.targets, bench.device, mode.precision)
                difference = relative(found.gradient(), expected.gradient())
                card = bench.rate(found.run, len(seen), bench.device)
            what = f"{name} alone, batch of {len(seen)}, {mode.name}"
            yield Row(what, "clips/s", cpu, card, difference, mode.allowed)


class Pass:
    """Forward, loss and backward of one module, which is copied to a device."""

    def __init__(
        self,
        model: MoE,
        part: nn.Module,
        seen: Tensor,
        targets: Tensor,
        device: torch.device,
        precision: str = "fp32",
    ) -> None:
        self.part, self.task = copy.deepcopy(part).to(device).train(), model.task
        self.seen, self.targets = seen.to(device), targets.to(device)
        self.half = precision == "bf16"

    def run(self) -> None:
        """Compute the gradients anew."""
        self.part.zero_grad(set_to_none=True)
        with torch.autocast(self.seen.device.type, torch.bfloat16, enabled=self.half):
            said = self.part(self.seen)
        logits = said if isinstance(said, Tensor) else said.logits
        self.task.loss(logits.float(), self.targets).backward()

    def gradient(self) -> Tensor:
        """Return the gradient of all weights as one vector."""
        self.run()
        return gradient_of(self.part)


def measure_step(
    bench: Bench, step: Step, mode: Mode, row: Row, expected: tuple[Tensor, float]
) -> Row:
    """Return the row of one mode: ``expected`` are the CPU's gradient and loss."""
    torch._dynamo.reset()
    with arithmetic(mode.tf32):
        began = time.perf_counter()
        trainer = step.build(mode)
        found, loss = step.look(trainer)
        first_s = time.perf_counter() - began
        difference = relative(found, expected[0])
        rate = bench.rate(lambda: step.take(trainer), 1, step.device)
        note = f"loss {loss:.4f}, on the CPU {expected[1]:.4f}; "
        note += f"first step {first_s:.0f} s; " if mode.wrap else ""
        note += "" if mode.wrap else note_split(bench, step, trainer)
        note += note_busy(lambda: step.take(trainer), step.device, 1.0 / rate)
    return replace(row, card=rate, difference=difference, allowed=mode.allowed, note=note)


def note_split(bench: Bench, step: Step, trainer: Trainer) -> str:
    """Return the milliseconds of the forward pass, and of it with losses and backward pass."""
    spec, targets = step.spec.to(step.device), step.targets.to(step.device)
    config, generator = trainer.config.model, torch.Generator().manual_seed(2)
    draws = draw_step(
        config, batch=len(spec), columns=stem_columns(spec.shape[2]), generator=generator
    )
    draws = replace(draws, window_noise=draws.window_noise.to(step.device))

    def learn() -> None:
        output = trainer._forward(spec, draws)
        compute_losses(output, targets, config, generator=generator).total.backward()

    forward = bench.rate(lambda: trainer._forward(spec, draws), 1, step.device)
    both = bench.rate(learn, 1, step.device)
    return f"forward {1e3 / forward:.0f} ms, to the gradient {1e3 / both:.0f} ms; "


def measure_epoch(bench: Bench, config: RunConfig, store: SpectrogramStore) -> Iterator[Row]:
    """An epoch as ``xmoe train`` runs it, and the making of its batches, which is the CPU's."""
    rates = {}
    for device in (CPU, bench.device):
        trainer = Step(config, store, device).build(AS_IT_COMES)
        trainer.train_epoch()
        rates[device] = trainer.steps_per_epoch / trainer.train_epoch().seconds
    note = "batches made between steps"
    yield Row("epoch of batches of 32", "steps/s", rates[CPU], rates[bench.device], note=note)
    frontend, size = build_frontend(config.spectro), bench.size(32, 8)
    power, valid = store.batch(list(range(size)), [0] * size, config.spectro.num_frames)

    def made(device: torch.device) -> Tensor:
        front = frontend.to(device)
        generator = torch.Generator().manual_seed(3)
        changed = augment_batch(
            power.to(device),
            AugmentConfig(),
            bin_centers_hz=front.bin_centers_hz,
            generator=generator,
            valid_frames=valid.to(device),
        )
        return front.compress(changed, valid.to(device))

    with arithmetic(tf32=False):
        difference = differ(made(bench.device), made(CPU))
        cpu, card = (bench.rate(lambda d=d: made(d), 1, d) for d in (CPU, bench.device))
    yield Row("augmented batch of 32", "batches/s", cpu, card, difference, 2e-2)
