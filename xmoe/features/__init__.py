"""Recordings -> stores of spectrograms: computed once, read many times."""
