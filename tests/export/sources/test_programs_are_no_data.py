"""A .pt2 file is a program: reading it can run code, so it is not read without being trusted."""

import contextlib
import json
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from convd.export.errors import SourceError
from convd.export.sources.description import GivenDescription
from convd.export.sources.loading import SourceRequest, load_source
from tests.export.networks import CLASSES, TinyCnn

GIVEN = GivenDescription(labels=CLASSES, mean=(0.5,), std=(0.5,))


def program_that_runs_code(path: Path, canary: Path) -> None:
    """A program whose dynamic batch is an expression with a side effect."""
    honest = path.with_name("honest.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            TinyCnn().eval(),
            (torch.zeros(2, 3, 16, 16),),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        torch.export.save(program, honest)
    with zipfile.ZipFile(honest) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith("models/model.json"):
                data = json.dumps(poisoned(json.loads(data), canary)).encode()
            new.writestr(entry.filename.replace("honest", path.stem, 1), data)


def poisoned(part: object, canary: Path) -> object:
    if isinstance(part, list):
        return [poisoned(each, canary) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        key: f"[open({str(canary)!r}, 'w'), {value}][1]"
        if key == "expr_str" and not str(value).isdecimal()
        else poisoned(value, canary)
        for key, value in part.items()
    }


@pytest.mark.filterwarnings("ignore")
def test_a_program_that_runs_code_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path, canary = tmp_path / "net.pt2", tmp_path / "executed"
    program_that_runs_code(path, canary)
    with pytest.raises(SourceError, match=r"can run any code .*give --trust-code"):
        load_source(SourceRequest(str(path), given=GIVEN))
    assert not canary.exists()
    # It would have run: that is why the flag is there.
    with contextlib.suppress(SourceError):
        load_source(SourceRequest(str(path), given=GIVEN, trust_code=True))
    assert canary.exists()
