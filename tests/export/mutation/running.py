"""Runs an export with a fault in it."""

import contextlib
import importlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from convd.artifact.errors import ArtifactError
from convd.artifact.repository import ModelRepository
from convd.export.errors import ExportError
from tests.export.mutation.faults import Mutation


@dataclass(frozen=True)
class Outcome:
    """How a fault ended.

    Attributes:
        what: The fault.
        stopped_by: The error that stopped it; None where wrong answers were published.
        text: What it says.
    """

    what: str
    stopped_by: str | None
    text: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.stopped_by or 'PUBLISHED'}: {self.text}"


def run(mutation: Mutation) -> Outcome:
    """Export with a fault; nothing may be published."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with injected(mutation):
                mutation.export(Path(folder))
        except (ExportError, ArtifactError) as error:
            assert not ModelRepository(Path(folder, "repository")).versions("net")
            return Outcome(mutation.what, type(error).__name__, str(error).splitlines()[0])
        return Outcome(mutation.what, None)


@contextlib.contextmanager
def injected(mutation: Mutation) -> Iterator[None]:
    """Put a fault into every module that uses the function."""
    with contextlib.ExitStack() as stack:
        for target in mutation.targets:
            module, _, path = target.partition(":")
            owner: Any = importlib.import_module(module)
            *parents, name = path.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            wrong = mutation.fault(getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, wrong))
        yield
