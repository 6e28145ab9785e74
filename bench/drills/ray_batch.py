"""`convd batch --ray`, played: the rows of one machine, broken pictures, and kill -9."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.drills.ray_stage import BIN, RayCluster, RayError
from testbed.drawn_pictures import SHAPES, draw

_BROKEN_SHARE = 10
_PARTS = 40
_DISTINCT = 100


def bulk(cluster: RayCluster, model: Path, folder: Path, count: int) -> Iterator[tuple[str, bool]]:
    """Classify pictures here and on the cluster; what was seen, and whether it is as claimed."""
    pictures = folder / "pictures"
    broken = _draw(pictures, count)
    words = [pictures, "--model", model, "--provider", "cpu"]
    words += ["--pictures-per-part", -(-count // _PARTS)]
    on_ray = ["--ray", cluster.address]
    _finish(_batch(*words, "--output", folder / "here"))
    counts = _finish(_batch(*words, "--output", folder / "ray", *on_ray))
    expected, found = _rows(folder / "here"), _rows(folder / "ray")
    yield (
        f"`convd batch --ray`: the {found.num_rows} rows of {count} pictures are those of one "
        f"machine, bit for bit; {counts['errors']} broken pictures are {counts['errors']} rows.",
        found.equals(expected) and found.num_rows == count and counts["errors"] == broken,
    )
    killed = _batch(*words, "--output", folder / "killed", *on_ray)
    deadline = time.monotonic() + 120
    while len(list((folder / "killed").glob("part-*"))) < _PARTS // 4:
        if time.monotonic() > deadline or killed.poll() is not None:
            raise RayError("the run has no parts to be killed after")
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    done = len(list((folder / "killed").glob("part-*.parquet")))
    counts = _finish(_batch(*words, "--output", folder / "killed", *on_ray))
    found = _rows(folder / "killed")
    paths = len(set(found["path"].to_pylist()))
    yield (
        f"`convd batch --ray`, killed with -9 after {done} of {_PARTS} parts and started again: "
        f"{counts['pictures']} pictures were left, the same rows, {found.num_rows - paths} twice.",
        found.equals(expected) and paths == count and done < _PARTS,
    )


def _draw(folder: Path, count: int) -> int:
    """Pictures, of which a tenth are broken; returns how many."""
    folder.mkdir()
    drawn = []
    for number in range(_DISTINCT):
        file = folder / "one.png"
        draw(SHAPES[number % len(SHAPES)], number).save(file)
        drawn.append(file.read_bytes())
        file.unlink()
    broken = 0
    for number in range(count):
        data = drawn[number % _DISTINCT]
        if number % _BROKEN_SHARE == 0:
            broken += 1
            data = data[: 20 + number % 200]
        (folder / f"{number:06}.png").write_bytes(data)
    return broken


def _batch(*words: object) -> "subprocess.Popen[str]":
    command = [BIN / "python", "-m", "convd", "batch", *words, "--json"]
    return subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )


def _finish(run: "subprocess.Popen[str]") -> dict[str, Any]:
    out, err = run.communicate(timeout=300)
    if run.returncode:
        raise RayError(err)
    counts: dict[str, Any] = json.loads(out.splitlines()[-1])
    return counts


def _rows(output: Path) -> pa.Table:
    """All rows but for what they took, in order."""
    parts = [pq.read_table(part) for part in sorted(output.glob("part-*.parquet"))]
    return pa.concat_tables(parts).drop_columns("seconds").combine_chunks()
