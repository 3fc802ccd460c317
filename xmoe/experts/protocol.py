"""What an expert is: a record of settings, a weights file, and one method from its input to logits.

A router decides which experts are asked, with what weight, and on which spans of time. What an
expert is fed is up to its kind: ``pack`` makes it, in the router's process, from what the router
has at hand (``Inputs``), and only that travels. ``answer`` reads it, wherever the expert runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from torch import Tensor, nn

from xmoe.base.config import Frozen, ModelConfig

if TYPE_CHECKING:  # the process of an expert has no use for it
    from xmoe.audio.sound import Sound
    from xmoe.frontend.base import Frontend

Spec = TypeVar("Spec", bound=Frozen)

# Named arrays with one row a segment: all that one call to an expert sends.
Payload = Mapping[str, Tensor]


@dataclass(frozen=True)
class Inputs:
    """What experts can be fed from, for a batch of segments.

    ``stem_map`` uint8 [B, D, R, W] with ``scale`` [B], the float value of one level; [B, 0, R, W]
    where no expert reads it. A column covers ``column_s`` seconds; windows are ranked
    ``window_columns`` columns at a time. ``sound`` is given where an expert may need it.
    """

    stem_map: Tensor
    scale: Tensor
    column_s: float
    window_columns: int
    sound: Sound | None = None


@dataclass(frozen=True)
class ExpertRequest:
    """What one expert is sent: ``rows`` [b] of the batch, and a payload of b rows."""

    name: str
    rows: Tensor
    payload: Payload

    @property
    def size(self) -> int:
        """Numbers in the payload, which is about what the call costs."""
        return sum(value.numel() for value in self.payload.values())


@dataclass(frozen=True)
class ExpertReply:
    """An expert's ``logits`` [b, C] for ``rows`` [b] of the batch."""

    rows: Tensor
    logits: Tensor


class Expert(nn.Module, ABC, Generic[Spec]):
    """One expert. A kind is a subclass, named in ``registry`` by the ``kind`` of its spec.

    A payload of up to ``small_values`` numbers is answered in about the time that it takes to pass
    it to a thread.
    """

    kind: ClassVar[str]
    small_values: ClassVar[int] = 0

    @classmethod
    @abstractmethod
    def build(cls, spec: Spec, config: ModelConfig) -> Expert[Spec]:
        """The expert of a spec with fresh weights."""

    @staticmethod
    @abstractmethod
    def rows(spec: Spec, num_rows: int) -> tuple[int, int]:
        """First stem row and the row after the last whose saliency ranks this expert's spans."""

    @staticmethod
    @abstractmethod
    def pack(spec: Spec, inputs: Inputs, rows: Tensor, spans: Tensor) -> Payload:
        """What the expert is sent of segments ``rows`` [b] on ``spans`` [b, n, 2] in seconds.

        Spans are in the order of time and do not overlap. Needs no weights.
        """

    @abstractmethod
    def answer(self, payload: Payload) -> Tensor:
        """Logits [b, C] of what ``pack`` made."""

    def load(self) -> None:
        """Open what the expert needs beside its weights, while its run is at hand."""

    @abstractmethod
    def describe(self) -> str:
        """What is special about it, in a few words."""


class HearingExpert(Expert[Spec]):
    """An expert with a front end of its own, and gradients down to its spectrograms.

    It is sent the sound of spans (``xmoe.experts.sound.pack_sound``).
    """

    @property
    @abstractmethod
    def frontend(self) -> Frontend:
        """What it sees sound through."""

    @abstractmethod
    def see(self, payload: Payload) -> list[list[Tensor]]:
        """Spectrograms [F, T_i] of the pieces of each row of a payload."""

    @abstractmethod
    def answer_pieces(self, pieces: Sequence[Tensor]) -> Tensor:
        """Logits [C] of the spectrograms [F, T_i] of one row; gradients reach them."""


# Of whichever kind: the registry and the router treat all alike.
AnyExpert = Expert[Any]
