"""The lifecycle over a real repository and real servables, one look at a time."""

import contextlib
import gc
import hashlib
import logging
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from convd.artifact.repository import ModelRepository
from convd.runtime.cores import CoreBudget
from convd.service.calls.call import Call
from convd.service.errors import UnavailableError, VersionNotFoundError
from convd.service.inference.service import InferenceService
from convd.service.lifecycle import retries
from convd.service.lifecycle.catalog import Catalog, VersionChoice, VersionStatus
from convd.service.lifecycle.configuration import ModelConfiguration
from convd.service.lifecycle.loading import ServableLoader
from convd.service.lifecycle.manager import ServableManager
from convd.service.lifecycle.policy import State
from convd.service.metrics import Metrics
from convd.service.servables.servable import Servable
from convd.service.settings_sources import load_settings
from testbed.variants import update_checksums
from tests.support import running_server, wait_until
from tests.tiny_artifact import HEIGHT, WIDTH, publish_tiny


class Lifecycle:
    """A manager whose looks at the repository the test takes itself."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        settings = load_settings(
            {"repository": root, "max_batch_size": 4, "provider": "cpu", "load_memory_bytes": 0}
        )
        repository = ModelRepository(root)
        self.load_version = ServableLoader(repository, settings, Metrics(), CoreBudget(1))
        self.before_load: Callable[[str, int], None] = lambda _name, _version: None
        self.catalog = Catalog()
        self.now = 0.0
        self.history: list[tuple[str, int, State]] = []
        self.loads: list[tuple[str, int]] = []
        self.manager = ServableManager(
            repository,
            self.catalog,
            self._load,
            poll_seconds=60,
            on_change=self._changed,
            on_look=lambda: None,
            clock=lambda: self.now,
        )

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.manager.reconcile()

    def states(self, name: str = "pets") -> dict[int, str]:
        return {one.version: one.state.value for one in self.catalog.statuses(name)}

    def reason(self, version: int, name: str = "pets") -> str:
        return self.catalog.status(VersionChoice(name, version)).reason

    def configure(self, text: str, name: str = "pets") -> None:
        path = self.root / name / "config.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        now = time.time_ns()
        os.utime(path, ns=(now, now))

    def _load(self, name: str, version: int, configuration: ModelConfiguration) -> Servable:
        self.loads.append((name, version))
        self.before_load(name, version)
        return self.load_version(name, version, configuration)

    def _changed(self, status: VersionStatus) -> None:
        self.history.append((status.name, status.version, status.state))


@pytest.fixture
def pets(tmp_path: Path) -> Iterator[Lifecycle]:
    """A model `pets` with version 1, loaded."""
    lifecycle = Lifecycle(tmp_path / "repository")
    publish_tiny(lifecycle.root, seed=1)
    lifecycle.look()
    yield lifecycle
    lifecycle.manager.stop_polling()


def corrupt(path: Path) -> bytes:
    good = path.read_bytes()
    path.write_bytes(b"\0" * len(good))
    return good


def test_the_new_version_answers_before_the_old_one_drains(pets: Lifecycle) -> None:
    publish_tiny(pets.root, seed=2)
    pets.history.clear()
    pets.look()
    wait_until(lambda: pets.states() == {1: "unloaded", 2: "available"})
    assert [(version, state.value) for _, version, state in pets.history] == [
        (2, "loading"),
        (2, "available"),
        (1, "draining"),
        (1, "unloaded"),
    ]


def test_a_request_in_flight_keeps_its_version_while_others_are_loaded(pets: Lifecycle) -> None:
    rows = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    with pets.catalog.acquire(VersionChoice("pets")) as held:
        publish_tiny(pets.root, seed=2)
        publish_tiny(pets.root, "other")
        pets.look()
        assert pets.states() == {1: "draining", 2: "available"}
        assert pets.states("other") == {1: "available"}, "draining held up the others"
        assert held.batcher.submit(rows).outputs[0].shape == (1, 3)
    wait_until(lambda: pets.states() == {1: "unloaded", 2: "available"})


def test_an_unloaded_version_leaves_the_memory(pets: Lifecycle) -> None:
    servable = weakref.ref(pets.catalog.status(VersionChoice("pets", 1)).servable)
    session = weakref.ref(servable().session)  # type: ignore[union-attr]
    inference = InferenceService(
        pets.catalog, max_image_pixels=9999, max_images_per_request=9, decode_budget_bytes=2**26
    )
    rows = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    # They are a part of the session's memory.
    probabilities = inference.classify(
        Call(),
        VersionChoice("pets"),
        rows,
        lambda one: weakref.ref(one.outputs.probabilities),
    )
    publish_tiny(pets.root, seed=2)
    pets.look()
    wait_until(lambda: pets.states() == {1: "unloaded", 2: "available"})

    def gone() -> bool:
        gc.collect()
        return servable() is None and session() is None and probabilities() is None

    wait_until(gone, 10)


def test_a_version_that_is_still_being_copied_is_not_failed_for_ever(
    pets: Lifecycle, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    publish_tiny(elsewhere, seed=2)
    source, target = elsewhere / "pets" / "1", pets.root / "pets" / "2"
    target.mkdir()
    pets.look()
    assert pets.states() == {1: "available", 2: "failed"}
    for file in sorted(source.rglob("*")):
        copy = target / file.relative_to(source)
        if file.is_dir():
            copy.mkdir()
        else:
            shutil.copy(file, copy)
        pets.look()
        assert pets.states()[1] == "available"
    tried = len(pets.loads)
    pets.look(2)
    assert len(pets.loads) == tried + 1, "it was tried while files still came"
    assert pets.states()[2] == "available"


def test_what_could_not_be_read_is_tried_again_after_growing_pauses(pets: Lifecycle) -> None:
    def fail(_name: str, version: int) -> None:
        if version == 2:
            raise OSError(5, "Input/output error")

    pets.before_load = fail
    publish_tiny(pets.root, seed=2)
    pets.look(3)
    assert pets.loads.count(("pets", 2)) == 1
    assert pets.reason(2) == "Input/output error"
    pets.now = retries.FIRST_PAUSE_SECONDS
    pets.look(3)
    assert pets.loads.count(("pets", 2)) == 2
    pets.now *= 2
    pets.look(3)
    assert pets.loads.count(("pets", 2)) == 2, "the second pause is longer"
    pets.before_load = lambda _name, _version: None
    pets.now *= 2
    pets.look()
    assert pets.states()[2] == "available"


def test_wrong_answers_are_never_tried_again_until_the_files_change(pets: Lifecycle) -> None:
    publish_tiny(pets.root, seed=2)
    wrong, other = pets.root / "pets" / "2", pets.root / "pets" / "1"
    # Version 1's network under version 2's promises, with all checksums in order.
    shutil.copy(other / "model.onnx", wrong / "model.onnx")
    update_checksums(wrong)
    pets.look()
    assert "golden" in pets.reason(2)
    pets.now = 10 * retries.LONGEST_PAUSE_SECONDS
    pets.look(3)
    assert pets.loads.count(("pets", 2)) == 1
    assert pets.states() == {1: "available", 2: "failed"}


def test_a_deleted_version_drains_and_the_one_before_answers(pets: Lifecycle) -> None:
    publish_tiny(pets.root, seed=2)
    pets.look()
    wait_until(lambda: pets.states()[1] == "unloaded")
    shutil.rmtree(pets.root / "pets" / "2")
    pets.look()
    assert pets.states()[2] == "available", "missing once may be a volume's hiccup"
    pets.look()
    assert pets.states()[1] == "available"
    wait_until(lambda: pets.states().get(2) != "draining")
    pets.look()
    assert pets.states() == {1: "available"}


@pytest.mark.parametrize("error", [OSError(116, "Stale file handle"), PermissionError(13, "No")])
def test_a_listing_error_takes_nothing_out_of_service_and_others_go_on(
    pets: Lifecycle, error: OSError, caplog: pytest.LogCaptureFixture
) -> None:
    publish_tiny(pets.root, "zebras")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "pets":
            raise error
        return real(path)

    with (
        mock.patch("convd.artifact.repository.os.scandir", scandir),
        caplog.at_level(logging.ERROR),
    ):
        pets.look(5)
    assert pets.states() == {1: "available"}
    assert pets.states("zebras") == {1: "available"}
    assert len([one for one in caplog.records if "repository read failed" in one.getMessage()]) == 1


def test_a_repository_that_is_gone_or_no_longer_mounted_takes_nothing_out_of_service(
    pets: Lifecycle,
) -> None:
    away = pets.root.rename(pets.root.with_name("away"))
    pets.look(3)
    assert pets.states() == {1: "available"}
    assert "does not exist" in pets.manager.repository_problem
    pets.root.mkdir()
    real = Path.stat

    def on_another_device(self: Path, **how: Any) -> os.stat_result:
        status = real(self, **how)
        if self != pets.root:
            return status
        fields = list(status)
        fields[2] += 1
        return os.stat_result(fields)

    with mock.patch.object(Path, "stat", on_another_device):
        pets.look(3)
    assert pets.states() == {1: "available"}
    assert "check that the volume is mounted" in pets.manager.repository_problem
    pets.root.rmdir()
    away.rename(pets.root)
    pets.look()
    assert pets.manager.repository_problem == ""


def test_a_look_reads_no_file_of_a_version_that_is_as_it_was(pets: Lifecycle) -> None:
    for seed in range(2, 6):
        publish_tiny(pets.root, seed=seed)
    pets.look(2)
    asked: list[str] = []
    real = Path.stat

    def stat(self: Path, **how: Any) -> os.stat_result:
        asked.append(str(self.relative_to(pets.root)))
        return real(self, **how)

    with mock.patch.object(Path, "stat", stat):
        pets.look()
    assert sorted(set(asked)) == [".", "pets", "pets/5/manifest.json", "pets/config.yaml"]


def test_a_version_that_is_published_anew_under_its_number_is_loaded_anew(
    pets: Lifecycle, tmp_path: Path
) -> None:
    before = pets.catalog.newest("pets")
    publish_tiny(tmp_path / "elsewhere", seed=9)
    shutil.rmtree(pets.root / "pets" / "1")
    shutil.copytree(tmp_path / "elsewhere" / "pets" / "1", pets.root / "pets" / "1")
    pets.history.clear()
    pets.look()
    after = pets.catalog.newest("pets")
    assert after is not None
    assert after is not before
    assert {state for _, _, state in pets.history} == {State.AVAILABLE}, "there was a gap"


def test_labels_point_to_versions_and_move_while_serving(pets: Lifecycle) -> None:
    publish_tiny(pets.root, seed=2)
    publish_tiny(pets.root, seed=3)
    pets.configure("labels: {stable: 1, canary: 2}")
    pets.look(2)
    assert pets.states() == {1: "available", 2: "available", 3: "available"}
    for label, version in {"stable": 1, "canary": 2}.items():
        with pets.catalog.acquire(VersionChoice("pets", label=label)) as servable:
            assert servable.version == version
    with pets.catalog.acquire(VersionChoice("pets")) as servable:
        assert servable.version == 3
    pets.configure("labels: {stable: 2}")
    pets.look(2)
    with pets.catalog.acquire(VersionChoice("pets", label="stable")) as servable:
        assert servable.version == 2
    wait_until(lambda: pets.states() == {1: "unloaded", 2: "available", 3: "available"})
    with pytest.raises(VersionNotFoundError, match="no label canary; its labels are: stable"):
        pets.catalog.status(VersionChoice("pets", label="canary"))


def test_a_label_stays_where_it_is_until_its_new_version_answers(pets: Lifecycle) -> None:
    pets.configure("labels: {stable: 1}")
    pets.look(2)
    publish_tiny(pets.root, seed=2)
    good = corrupt(pets.root / "pets" / "2" / "model.onnx")
    pets.configure("labels: {stable: 2}")
    pets.look(2)
    with pets.catalog.acquire(VersionChoice("pets", label="stable")) as servable:
        assert servable.version == 1
    assert "label stable stays at version 1" in pets.catalog.problem("pets")
    (pets.root / "pets" / "2" / "model.onnx").write_bytes(good)
    pets.look(2)
    with pets.catalog.acquire(VersionChoice("pets", label="stable")) as servable:
        assert servable.version == 2
    assert pets.catalog.problem("pets") == ""


def test_a_label_of_a_version_that_never_was_is_reported(pets: Lifecycle) -> None:
    pets.configure("labels: {stable: 7}")
    pets.look(2)
    assert "label stable is unusable because version 7" in pets.catalog.problem("pets")
    with (
        pytest.raises(VersionNotFoundError, match="has no version 7"),
        pets.catalog.acquire(VersionChoice("pets", label="stable")),
    ):
        pass


def test_another_engine_setting_loads_anew_before_the_old_one_drains(pets: Lifecycle) -> None:
    with pets.catalog.acquire(VersionChoice("pets")) as held:
        pets.history.clear()
        pets.configure("max_batch_size: 2")
        pets.look(2)
        with pets.catalog.acquire(VersionChoice("pets")) as servable:
            assert servable is not held
            assert servable.costs[-1].rows == 2
    assert [state for _, _, state in pets.history] == [State.AVAILABLE], "there was a gap"
    pets.look(2)
    assert len(pets.loads) == 2


def test_an_engine_setting_that_cannot_be_had_leaves_what_answers(pets: Lifecycle) -> None:
    pets.configure("provider: cuda")
    pets.look(3)
    assert pets.states() == {1: "available"}
    assert "reload failed; the previously loaded version keeps serving" in pets.reason(1)
    assert len(pets.loads) == 2
    pets.configure("provider: cpu")
    pets.look(2)
    assert pets.reason(1) == ""


def test_policies_follow_the_file(pets: Lifecycle) -> None:
    for seed in (2, 3):
        publish_tiny(pets.root, seed=seed)
    pets.configure("version_policy: all")
    pets.look(2)
    assert pets.states() == {1: "available", 2: "available", 3: "available"}
    pets.configure("version_policy: {specific: [2, 9]}")
    pets.look(2)
    wait_until(lambda: pets.states() == {1: "unloaded", 2: "available", 3: "unloaded"})
    pets.look()
    assert "configured, but not in the repository: version 9" in pets.catalog.problem("pets")


def test_a_model_whose_configuration_was_never_good_is_not_served_until_it_is(
    pets: Lifecycle,
) -> None:
    pets.configure("version_polcy: all", "zebras")
    publish_tiny(pets.root, "zebras")
    pets.look()
    assert pets.states("zebras") == {1: "failed"}
    assert "config.yaml is refused: line 1: unknown key" in pets.reason(1, "zebras")
    assert "zebras" not in dict(pets.loads)
    pets.configure("version_policy: all", "zebras")
    pets.look(2)
    assert pets.states("zebras") == {1: "available"}


def test_a_model_that_was_unloaded_stays_so_until_it_is_asked_for(pets: Lifecycle) -> None:
    pets.manager.unload_model("pets")
    wait_until(lambda: pets.states() == {1: "unloaded"})
    pets.look(3)
    with pytest.raises(UnavailableError), pets.catalog.acquire(VersionChoice("pets")):
        pass
    pets.manager.load_model("pets")
    assert pets.states() == {1: "available"}


def test_readiness_names_what_is_missing_and_why(tmp_path: Path) -> None:
    lifecycle = Lifecycle(tmp_path / "repository")
    publish_tiny(lifecycle.root, "good")
    publish_tiny(lifecycle.root, "broken")
    corrupt(lifecycle.root / "broken" / "1" / "model.onnx")
    lifecycle.configure("labels: {stable: 1}", "planned")
    (lifecycle.root / "lost+found").mkdir()
    lifecycle.manager.start()
    wait_until(lambda: not lifecycle.manager.unready_reason().startswith("loading"))
    reason = lifecycle.manager.unready_reason()
    assert "broken: version 1 was refused (model.onnx does not match" in reason
    assert "planned: no version is published" in reason
    assert "good" not in reason
    assert "lost" not in reason
    lifecycle.manager.stop_polling()
    assert lifecycle.manager.unready_reason() == "draining"


def test_nobody_meets_a_gap_while_versions_come_and_go(pets: Lifecycle) -> None:
    stop = threading.Event()
    failures: list[Exception] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                with pets.catalog.acquire(VersionChoice("pets")):
                    pass
            except UnavailableError as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(stop.set)
        for seed in range(2, 12):
            publish_tiny(pets.root, seed=seed)
            if seed % 3 == 0:
                corrupt(pets.root / "pets" / str(seed) / "model.onnx")
            pets.look()
    for thread in threads:
        thread.join()
    assert failures == []


def test_folders_that_cannot_be_served_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_tiny(tmp_path)
    for folder in ("my pets/1", "pets/v2", "pets/007"):
        (tmp_path / folder).mkdir(parents=True)
    with running_server(tmp_path):
        time.sleep(0.3)
    said = [line for line in caplog.messages if "is not served" in line]
    assert len(said) == 3
    assert "whole number" in "".join(said)


def test_no_name_or_content_in_a_repository_forges_a_line_of_the_log(
    pets: Lifecycle, caplog: pytest.LogCaptureFixture
) -> None:
    forged = "x\nERROR forged \x1b[31m"
    (pets.root / forged).mkdir()
    (pets.root / os.fsdecode(b"\xff\xfe")).mkdir()
    pets.configure(f"{forged!r}: 1".replace("'", '"'))
    publish_tiny(pets.root, seed=2)
    path = pets.root / "pets" / "2" / "manifest.json"
    data = path.read_bytes().replace(b"{", b'{"a\\u001b[31m\\nERROR forged": 1,', 1)
    path.write_bytes(data)
    checksum = hashlib.sha256(data).hexdigest()
    (path.parent / "manifest.json.sha256").write_text(f"{checksum}  manifest.json\n")
    pets.look(3)
    said = [record.getMessage() for record in caplog.records]
    assert sum("forged" in line for line in said) == 3
    assert all(line.isprintable() for line in said if "forged" in line or "not served" in line)
