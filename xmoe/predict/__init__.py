"""A run folder + a recording -> an answer, in this process. Training is not imported here."""
