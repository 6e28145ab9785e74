"""A kill at any moment of an export leaves no visible half version."""

import subprocess
import sys
from pathlib import Path

import onnx

from testbed.server import environment
from tests.export.test_onnx_source import foreign_model
from tests.support import ROOT

KILLS = 8


def test_a_killed_export_leaves_nothing_half_done_and_the_next_one_succeeds(tmp_path: Path) -> None:
    onnx.save(foreign_model(), tmp_path / "model.onnx")
    words = [sys.executable, "-m", "tests.export.killed_exports"]
    words += [str(tmp_path / "model.onnx"), str(tmp_path / "repository"), str(KILLS)]
    done = subprocess.run(
        words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert len(rows) == KILLS + 2
    first, *killed, last = rows
    assert first[1:] == [0, 1, 0]
    visible = 1
    exit_codes = [row[1] for row in killed]
    assert -9 in exit_codes
    for _, exit_code, versions, hidden in killed:
        # Moments are parts of what the first export took: on a machine that gets faster, one may
        # end before it is killed.
        assert exit_code in (-9, 0)
        # Whatever the moment: no version more, or one that is whole.
        assert versions in ((visible, visible + 1) if exit_code else (visible + 1,))
        assert hidden <= 1
        visible = versions
    assert last[1:] == [0, visible + 1, 0]
