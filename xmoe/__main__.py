"""``python -m xmoe``: the same as the ``xmoe`` command."""

from __future__ import annotations

from xmoe.cli import main

if __name__ == "__main__":
    main()
