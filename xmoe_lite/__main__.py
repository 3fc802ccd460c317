"""``python -m xmoe_lite DIR FILE...``: one line a file, with its answer; JSON with ``--json``."""

from __future__ import annotations

import argparse
import json
import sys

from xmoe_lite.model import Model
from xmoe_lite.sound import LiteError, read_sound


def main() -> int:
    """Answer for files; 2 where the folder or a file cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m xmoe_lite", description=__doc__)
    parser.add_argument("folder", help="what xmoe export wrote")
    parser.add_argument("files", nargs="+", help="recordings")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    options = parser.parse_args()
    try:
        model = Model(options.folder)
    except LiteError as error:
        sys.stderr.write(f"xmoe_lite: {error}\n")
        return 2
    failed = False
    for file in options.files:
        try:
            answer = model.predict(*read_sound(file))
        except LiteError as error:
            failed = True
            sys.stderr.write(f"xmoe_lite: {file}: {error}\n")
            continue
        line = "{label}  {probability:.4f}  experts asked {k:.2f}  {seconds:.3f} s".format(**answer)
        text = json.dumps({"file": file, **answer}) if options.json else f"{file}: {line}"
        sys.stdout.write(text + "\n")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
