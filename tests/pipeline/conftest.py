"""A folder of tones, and one classifier fitted to it."""

from tests.fixtures.fitted import fitted, small, tone, tones, write_tones

__all__ = ["fitted", "small", "tone", "tones", "write_tones"]
