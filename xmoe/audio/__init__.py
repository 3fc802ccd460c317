"""Untrusted files and manifests -> decoded clips with labels and splits."""
