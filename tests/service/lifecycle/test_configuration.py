import os
import time
from pathlib import Path

import pytest

from convd.service.lifecycle.configuration import (
    ConfigurationError,
    ConfigurationFile,
    ModelConfiguration,
    read_configuration,
)
from convd.service.lifecycle.policy import AllVersions, LatestVersions, SpecificVersions


def configuration_of(text: str, folder: Path) -> ModelConfiguration:
    (folder / "config.yaml").write_text(text)
    return read_configuration(folder / "config.yaml")


def write(path: Path, text: str) -> None:
    path.write_text(text)
    # However coarse the clock of the volume is, this write is seen.
    now = time.time_ns()
    os.utime(path, ns=(now, now))


def look_twice(file: ConfigurationFile) -> None:
    file.refresh()
    file.refresh()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ModelConfiguration()),
        ("version_policy: all", ModelConfiguration(version_policy=AllVersions())),
        (
            "version_policy: {latest: 2}",
            ModelConfiguration(version_policy=LatestVersions(latest=2)),
        ),
        (
            "version_policy: {specific: [3, 4]}\nlabels: {stable: 3, canary: 4}",
            ModelConfiguration(
                version_policy=SpecificVersions(specific=frozenset({3, 4})),
                labels={"stable": 3, "canary": 4},
            ),
        ),
        (
            "max_batch_size: 4\nmax_queue_delay_seconds: 0.01\nprovider: cpu",
            ModelConfiguration(max_batch_size=4, max_queue_delay_seconds=0.01, provider="cpu"),
        ),
    ],
)
def test_what_a_configuration_may_say(
    text: str, expected: ModelConfiguration, tmp_path: Path
) -> None:
    assert configuration_of(text, tmp_path) == expected


def test_only_what_concerns_the_engine_goes_to_the_engine(tmp_path: Path) -> None:
    configuration = configuration_of("labels: {stable: 1}\nmax_queue_size: 9", tmp_path)
    assert configuration.engine_settings() == {"max_queue_size": 9}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batchsize: 4", "max_batchsize: unknown key; did you mean max_batch_size?"),
        ("colour: red", "colour: unknown key"),
        ("max_batch_size: 0", "max_batch_size: Input should be greater than or equal to 1"),
        ("max_batch_size: many", "max_batch_size: Input should be a valid integer"),
        ("version_policy: newest", "version_policy: write all, {latest: 2} or {specific: [3, 4]}"),
        ("version_policy: {latest: 0}", "version_policy: write all"),
        ("version_policy: {specific: []}", "version_policy: write all"),
        ("version_policy: {latest: 1, specific: [2]}", "version_policy: write all"),
        ("labels: {stable: newest}", "labels.stable: Input should be a valid integer"),
        ("labels: {3: 3}", "labels.3: "),
        ("labels: {stable: 1, stable: 2}", "the key 'stable' is there twice"),
        ("[1, 2]", "it must be a mapping"),
        ("labels: {stable: 1", "not valid YAML"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_what_to_change(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configuration_of(text, tmp_path)
    assert message in str(caught.value)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    file = ConfigurationFile(tmp_path / "config.yaml")
    file.refresh()
    assert (file.configuration, file.exists, file.problem) == (ModelConfiguration(), False, "")


def test_a_broken_file_keeps_the_last_good_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, "max_batch_size: 4")
    file = ConfigurationFile(path)
    file.refresh()
    write(path, "max_batch_sise: 8")
    look_twice(file)
    assert file.configuration == ModelConfiguration(max_batch_size=4)
    assert "did you mean max_batch_size?; the last good configuration stays" in file.problem
    write(path, "max_batch_size: 16")
    look_twice(file)
    assert (file.configuration, file.problem) == (ModelConfiguration(max_batch_size=16), "")


def test_a_file_that_was_never_good_gives_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, "latest: 1")
    file = ConfigurationFile(path)
    file.refresh()
    assert file.configuration is None
    assert file.problem == "config.yaml is refused: latest: unknown key; did you mean labels?"


def test_a_file_that_is_just_being_written_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, "version_policy: {specific: [3]}")
    file = ConfigurationFile(path)
    file.refresh()
    before = file.configuration
    write(path, "")
    file.refresh()
    assert file.configuration == before, "an editor had emptied the file to write it anew"
    write(path, "version_policy: {specific: [4]}")
    look_twice(file)
    assert file.configuration == ModelConfiguration(
        version_policy=SpecificVersions(specific=frozenset({4}))
    )


def test_a_file_that_is_removed_gives_the_defaults_again(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, "max_batch_size: 4")
    file = ConfigurationFile(path)
    file.refresh()
    path.unlink()
    look_twice(file)
    assert file.configuration == ModelConfiguration()
