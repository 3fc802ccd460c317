"""The benchmark of exported runs sees equal answers, and less memory."""

import re

import soundfile as sf

from benchmarks import export
from tests.fixtures.closed_runs import write_closed_run
from tests.fixtures.runs import RATE_HZ, make_sound


def test_it_prints_parity_and_costs(tmp_path, capsys):
    run = write_closed_run(tmp_path / "run")
    rows = ["filepath,split,label"]
    for index in range(6):
        sf.write(tmp_path / f"{index}.wav", make_sound(0.5, seed=index), RATE_HZ)
        rows.append(f"{index}.wav,{'test' if index < 3 else 'train'},{'ab'[index % 2]}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows) + "\n")
    export.main([str(run), "--dataset", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.startswith("3 test clips of run, mean K ")
    assert "more than 1e-4: 0 clips; another label: 0; another K: 0" in printed
    full, lite = (float(row.split("|")[4]) for row in re.findall(r"\| xmoe.*", printed))
    assert lite < full / 2
