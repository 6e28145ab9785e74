import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.artifact.errors import RepositoryError
from convd.artifact.location import locate
from convd.artifact.repository import ModelRepository, check_model_name
from tests.support import ROOT


def publish(repository: ModelRepository, name: str, content: str = "x") -> int:
    with repository.staging(name) as staging:
        (staging / "file").write_text(content)
        return repository.publish(name, staging)


def test_versions_count_up_and_the_staging_folder_is_gone(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "new" / "repository")
    assert [publish(repository, "digits") for _ in range(3)] == [1, 2, 3]
    assert repository.versions("digits") == [1, 2, 3]
    assert repository.models() == ["digits"]
    assert sorted(os.listdir(repository.root / "digits")) == ["1", "2", "3"]


def test_publishers_at_the_same_time_get_versions_of_their_own(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        versions = list(threads.map(lambda n: publish(repository, "digits", str(n)), range(24)))
    assert sorted(versions) == list(range(1, 25))
    for content, version in enumerate(versions):
        file = repository.version_path("digits", version) / "file"
        assert file.read_text() == str(content)


def test_a_failure_while_staging_leaves_nothing(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    with pytest.raises(ZeroDivisionError), repository.staging("digits") as staging:
        (staging / "file").write_text("half")
        raise ZeroDivisionError
    assert repository.versions("digits") == []
    assert os.listdir(tmp_path / "digits") == []


def test_a_publisher_that_was_killed_leaves_no_visible_version(tmp_path: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from convd.artifact.repository import ModelRepository
        with ModelRepository(Path({str(tmp_path)!r})).staging("digits") as staging:
            (staging / "file").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, check=False)
    assert killed.returncode == -9
    repository = ModelRepository(tmp_path)
    assert repository.versions("digits") == []
    assert len(os.listdir(tmp_path / "digits")) == 1
    assert publish(repository, "digits") == 1
    assert os.listdir(tmp_path / "digits") == ["1"]


def test_only_numbered_folders_are_versions(tmp_path: Path) -> None:
    for name in ("1", "02", "0", "-3", "latest", ".staging-x", "10"):
        (tmp_path / "digits" / name).mkdir(parents=True)
    (tmp_path / "digits" / "7").write_text("a file")
    assert ModelRepository(tmp_path).versions("digits") == [1, 10]


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\0b", "a b", "x" * 65, "ä"])
def test_names_that_could_leave_the_repository_are_refused(name: str) -> None:
    with pytest.raises(RepositoryError, match="not a valid model name"):
        check_model_name(name)


@given(st.text(max_size=70))
def test_an_accepted_name_is_one_plain_folder(name: str) -> None:
    try:
        check_model_name(name)
    except RepositoryError:
        return
    assert Path(name).name == name
    assert name not in ("", ".", "..")


def test_a_repository_that_does_not_exist_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="convd export"):
        ModelRepository(tmp_path / "nothing").check_readable()


def test_a_repository_that_the_system_does_not_show_is_refused_with_its_reason(
    tmp_path: Path,
) -> None:
    # As for a folder without rights, which root would not notice.
    nowhere = tmp_path / ("x" * 300)
    for look in (ModelRepository(nowhere).check_readable, partial(locate, nowhere)):
        with pytest.raises(RepositoryError, match=r"cannot read .*: File name too long"):
            look()


def test_a_part_of_a_repository_is_not_taken_for_one(tmp_path: Path) -> None:
    version = tmp_path / "repository" / "digits" / "1"
    version.mkdir(parents=True)
    for file in ("manifest.json", "model.onnx"):
        (version / file).touch()
    ModelRepository(tmp_path / "repository").check_whole()
    with pytest.raises(RepositoryError, match=rf"one model: give .* {tmp_path}/repository$"):
        ModelRepository(version.parent).check_whole()
    with pytest.raises(RepositoryError, match=rf"one version .* {tmp_path}/repository$"):
        ModelRepository(version).check_whole()


def test_folders_that_cannot_be_models_or_versions_are_noted(tmp_path: Path) -> None:
    for folder in ("my model/1", "digits/v1", "digits/007", "digits/8", ".git", "digits/.staging"):
        (tmp_path / folder).mkdir(parents=True)
    repository = ModelRepository(tmp_path)
    assert repository.models() == ["digits"]
    assert repository.versions("digits") == [8]
    noted = {str(path.relative_to(tmp_path)) for path in repository.refused}
    assert noted == {"my model", "digits/v1", "digits/007"}
