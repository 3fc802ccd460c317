"""The folder of a run, here or at an address: its file names, its checkpoints, its hashes."""
