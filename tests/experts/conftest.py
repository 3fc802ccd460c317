"""Small mixtures, and spectrograms with a planted event."""

from tests.fixtures.mixtures import build, make_inputs, make_plan, make_specs, model, specs

__all__ = ["build", "make_inputs", "make_plan", "make_specs", "model", "specs"]
