"""Only regular files of bounded size are read, and only from inside the repository."""

import contextlib
import itertools
import os
import re
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.artifact import contained
from convd.artifact.contained import ContainedFolder, is_plain_path
from convd.artifact.errors import ArtifactError, OutsideError, RepositoryError
from convd.artifact.repository import ModelRepository
from tests.tiny_artifact import publish_tiny

CANARY = b"canary-4711"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file next to another one that holds a secret."""
    (tmp_path / "secret").write_bytes(CANARY)
    (tmp_path / "root" / "inner").mkdir(parents=True)
    (tmp_path / "root" / "inner" / "file").write_bytes(b"content")
    return tmp_path / "root"


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        # A socket's path is short.
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            listening.bind(path.name)
        finally:
            os.chdir(here)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (link("../secret"), "leads out of the repository"),
        (link("/proc/self/environ"), "leads out of the repository"),
        (link("/dev/zero"), "leads out of the repository"),
        (link("inner/../../secret"), "leads out of the repository"),
        (link("x"), "is not a usable path"),
        (link("inner"), "is not a regular file"),
        (Path.mkdir, "is not a regular file"),
        (os.mkfifo, "is not a regular file"),
        (device, "is not a regular file"),
        (bound_socket, "is not a regular file"),
        (sparse, "is over the limit of 100 bytes"),
        (lambda path: path.write_bytes(b"x" * 101), "is over the limit of 100 bytes"),
    ],
    ids=[
        *("link", "proc", "link to a device", "detour", "loop", "link to a folder", "folder"),
        *("pipe", "device", "socket", "sparse", "too large"),
    ],
)
def test_what_is_not_a_file_of_the_repository_is_refused_by_its_name(
    place: Callable[[Path], None], message: str, root: Path
) -> None:
    place(root / "x")
    with pytest.raises(OutsideError, match=f"^x .*{message}"):
        ContainedFolder.of(root).read("x", 100)


def test_links_that_stay_inside_are_followed_as_in_a_volume_of_kubernetes(root: Path) -> None:
    (root / "..data").symlink_to("inner")
    (root / "file").symlink_to("..data/file")
    (root / "absolute").symlink_to(root / "inner" / "file")
    repository = root.parent / "mounted"
    repository.symlink_to("root")
    for top in (root, repository):
        folder = ContainedFolder.of(top)
        for file in ("file", "absolute", "inner/file"):
            assert folder.read(file, 100) == b"content"
        assert folder.folder("..data").read("file", 100) == b"content"


def test_a_repository_may_move_while_it_is_served(root: Path) -> None:
    served = root.parent / "current"
    served.symlink_to("root")
    folder = ContainedFolder.of(served)
    (root.parent / "next" / "inner").mkdir(parents=True)
    (root.parent / "next" / "inner" / "file").write_bytes(b"newer")
    served.unlink()
    served.symlink_to("next")
    assert folder.read("inner/file", 100) == b"newer"


def test_a_missing_file_and_a_dangling_link_are_missing(root: Path) -> None:
    (root / "dangling").symlink_to("nowhere")
    for file in ("nothing", "dangling"):
        with pytest.raises(FileNotFoundError):
            ContainedFolder.of(root).read(file, 100)


@pytest.mark.parametrize("name", ["file", "inner"])
def test_a_link_that_is_put_there_after_the_check_is_not_followed(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = contained._open_beneath

    def replaced_meanwhile(top: Path, inside: Path) -> int:
        victim = root / "inner" if name == "inner" else root / "inner" / "file"
        victim.rename(root.parent / "away")
        (root.parent / "file").write_bytes(CANARY)
        victim.symlink_to(root.parent if name == "inner" else root.parent / "secret")
        return real(top, inside)

    monkeypatch.setattr(contained, "_open_beneath", replaced_meanwhile)
    with pytest.raises(OutsideError, match="inner/file cannot be read"):
        ContainedFolder.of(root).read("inner/file", 100)


@given(file=st.text(max_size=40))
def test_a_plain_path_stays_below_its_folder(file: str) -> None:
    if is_plain_path(file):
        assert not file.startswith("/")
        assert all(part not in ("", ".", "..") for part in file.split("/"))
        assert re.fullmatch(r"[\x21-\x7e]+", file)


@pytest.mark.parametrize(
    "file", ["", ".", "..", "/x", "a//b", "a/../b", ".hidden", "a b", "a\nb", "é", "a/" * 9 + "b"]
)
def test_other_paths_are_not_plain(file: str) -> None:
    assert not is_plain_path(file)


def test_folders_that_lead_out_are_neither_models_nor_versions(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "repository"
    publish_tiny(outside)
    publish_tiny(root)
    (root / "cats").symlink_to(outside / "pets")
    (root / "dogs").symlink_to("pets")
    (root / "pets" / "2").symlink_to(outside / "pets" / "1")
    (root / "pets" / "3").symlink_to("/")
    (root / "pets" / "4").symlink_to("1")
    repository = ModelRepository(root)
    assert repository.models() == ["dogs", "pets"]
    assert repository.versions("pets") == [1, 4]
    noted = {str(path.relative_to(root)) for path in repository.refused}
    assert noted == {"cats", "pets/2", "pets/3"}
    repository.open_version("dogs", 4).check_all_files()
    for name, version in (("cats", 1), ("pets", 2), ("pets", 3)):
        with pytest.raises(OutsideError, match="leads out of the repository"):
            repository.open_version(name, version)
    with pytest.raises(RepositoryError, match="cats leads out of the repository"):
        repository.versions("cats")
    with (
        pytest.raises(RepositoryError, match="cats leads out of the repository"),
        repository.staging("cats"),
    ):
        pass


def test_a_version_reads_nothing_from_other_versions_through_links(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    publish_tiny(tmp_path)
    network = tmp_path / "pets" / "1" / "model.onnx"
    network.unlink()
    network.symlink_to("../2/model.onnx")
    with pytest.raises(ArtifactError, match=r"pets/1/model\.onnx leads out of the artifact"):
        ModelRepository(tmp_path).open_version("pets", 1).check_all_files()


_NAMES = ("a", "b", "c", "..data")
_TARGETS = (*_NAMES, "a/b", "../a", "..", "../secret", "../../secret", ".", "/", "b/../../secret")


@given(
    links=st.lists(
        st.tuples(
            st.sampled_from(_NAMES), st.sampled_from(("", *_NAMES)), st.sampled_from(_TARGETS)
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_no_links_lead_a_reader_outside(
    links: list[tuple[str, str, str]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        outside = Path(name)
        (outside / "secret").write_bytes(CANARY)
        root = outside / "root"
        (root / "a").mkdir(parents=True)
        (root / "a" / "b").write_bytes(b"content")
        for folder, inner, target in links:
            with contextlib.suppress(OSError):
                (root / folder / inner).symlink_to(target)
        for first, second in itertools.product((*_NAMES, ".."), (*_NAMES, "secret", ".")):
            with contextlib.suppress(OutsideError, FileNotFoundError):
                read = ContainedFolder.of(root).read(f"{first}/{second}", 100)
                assert read == b"content"
