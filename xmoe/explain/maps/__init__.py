"""Ways to explain: a target and a trace -> a map [F, T] of what speaks for it; see ``methods``."""
