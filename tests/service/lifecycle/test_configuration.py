import os
import re
import time
from pathlib import Path

import pytest

from convd.service.lifecycle.configuration import (
    ConfigurationError,
    ConfigurationFile,
    ModelConfiguration,
    parse_configuration,
)
from convd.service.lifecycle.policy import AllVersions, LatestVersions, SpecificVersions


def configuration_file(path: Path) -> ConfigurationFile:
    return ConfigurationFile(path, lambda: path.read_bytes() if path.exists() else None)


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
def test_what_a_configuration_may_say(text: str, expected: ModelConfiguration) -> None:
    assert parse_configuration(text.encode()) == expected


def test_only_what_concerns_the_engine_goes_to_the_engine() -> None:
    configuration = parse_configuration(b"labels: {stable: 1}\nmax_queue_size: 9")
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
        ("labels: {stable: 1, stable: 2}", "a key is there twice: 'stable'"),
        ("[1, 2]", "it must be a mapping"),
        ("labels: {stable: 1", "not valid YAML"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_what_to_change(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_configuration(text.encode())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("a: 1\nroot_canary: 4", "line 1: unknown key; .*; line 2: unknown key; .* log names it"),
        ("max_batch_size: root_canary", "line 1: max_batch_size has a value that cannot be used"),
        ("provider: root_canary", "line 1: provider has a value that cannot be used"),
        ("labels: {root_canary: newest}", "line 1: labels has a value"),
        ("labels: {root_canary: 1, root_canary: 2}", "line 1: a key is there twice"),
        ("a: 1\nroot_canary", "not valid YAML, line 2"),
        ("root_canary:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1", "it must be a mapping"),
        ("root_canary: !!python/object:os.system x", "line 1: tags such as !!str are not read"),
        ("a: &root_canary 1\nb: *root_canary", "line 2: aliases are not read"),
        ("a: %root_canary", "not valid YAML, line "),
        ("\x01root_canary", "not valid YAML"),
        ("root_canary: 2026-99-99", "not valid YAML"),
    ],
)
def test_clients_learn_nothing_of_what_the_file_says(text: str, public: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_configuration(text.encode())
    assert re.match(public, caught.value.public)
    assert "canary" not in caught.value.public


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    file = configuration_file(tmp_path / "config.yaml")
    file.refresh()
    assert (file.configuration, file.exists, file.problem) == (ModelConfiguration(), False, "")


def test_a_broken_file_keeps_the_last_good_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, "max_batch_size: 4")
    file = configuration_file(path)
    file.refresh()
    write(path, "max_batch_sise: 8")
    look_twice(file)
    assert file.configuration == ModelConfiguration(max_batch_size=4)
    assert "unknown key; the server's log names it; the last good configuration" in file.problem
    write(path, "max_batch_size: 16")
    look_twice(file)
    assert (file.configuration, file.problem) == (ModelConfiguration(max_batch_size=16), "")


def test_a_file_that_was_never_good_gives_no_configuration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.yaml"
    write(path, "latest: 1")
    file = configuration_file(path)
    file.refresh()
    assert file.configuration is None
    problem = "config.yaml is refused: line 1: unknown key; the server's log names it"
    assert file.problem == problem
    assert "latest: unknown key; did you mean labels?" in caplog.text


def test_a_file_that_is_just_being_written_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, "version_policy: {specific: [3]}")
    file = configuration_file(path)
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
    file = configuration_file(path)
    file.refresh()
    path.unlink()
    look_twice(file)
    assert file.configuration == ModelConfiguration()
