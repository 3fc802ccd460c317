"""Recordings -> what is computed of each once and read many times: stores of spectrograms."""
