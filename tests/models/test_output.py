"""A run that cannot write says so in one line, and leaves what was there."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from convd.models.errors import OutputError
from convd.models.output import check_writable, writing
from convd.models.settings import TrainingSettings
from convd.models.training import train

LENET = TrainingSettings(architecture="lenet5", data="digits", classes=("0", "1"), epochs=1)


@contextmanager
def _full_disk(bytes_left: int) -> Iterator[None]:
    """Let no file grow beyond a size; the kernel refuses the write as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_the_checkpoint_that_was_there(tmp_path: Path) -> None:
    train(LENET, tmp_path, console=Console(quiet=True))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with _full_disk(100_000), pytest.raises(OutputError) as caught:
        train(LENET, tmp_path, console=Console(quiet=True), overwrite=True)
    assert "model.safetensors cannot be written (" in str(caught.value)
    assert "make room, then continue with --resume" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert (tmp_path / "model.safetensors").read_bytes() == before["model.safetensors"]
    assert {file.name for file in tmp_path.iterdir()} == before.keys()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing(tmp_path / "file") as partial:
        partial.write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with writing(tmp_path / "folder" / "file") as partial:
        partial.write_text("whole")
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["file"]


def test_an_output_that_is_a_file_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    for output in (tmp_path / "taken", tmp_path / "taken" / "run"):
        with pytest.raises(OutputError, match="taken is a file: give a folder with --output"):
            train(LENET, output, console=Console(quiet=True))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused_first(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="is read-only"):
        check_writable(tmp_path / "run")
