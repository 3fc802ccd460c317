"""Recordings in, clips out: untrusted files and manifests become samples, labels and splits."""
