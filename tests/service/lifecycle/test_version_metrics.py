"""What metrics say of versions, over real servers."""

import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from convd.service.lifecycle.catalog import VersionStatus
from convd.service.lifecycle.policy import State
from convd.service.lifecycle.version_metrics import KEEP_SECONDS, VersionCollector
from tests.digits import Digits
from tests.service.metrics.support import scrape
from tests.service.test_integrity import alter_model, lie_about_the_golden_answers
from tests.support import Client, png, running_server, wait_until

VERSION = {"model": "digits", "version": "1"}


def test_an_idle_version_has_few_series_and_all_that_alerts_need(repository: Path) -> None:
    with running_server(repository) as client:
        samples = [
            sample
            for family in text_string_to_metric_families(client.get("/metrics")[1])
            for sample in family.samples
            if sample.labels.get("model") == "digits"
        ]
    assert len(samples) <= 25
    zero = {sample.name for sample in samples if sample.value == 0}
    assert {"convd_images_total", "convd_dropped_rows_total", "convd_refused_images_total"} <= zero
    assert not [sample for sample in samples if sample.name.endswith("_bucket")]


def test_an_available_version_shows_what_it_is_and_its_proof(
    client: Client, digits: Digits
) -> None:
    client.classify(digits.encoded())
    assert scrape(client, "convd_version_state", **VERSION, state="available") == [1]
    assert scrape(client, "convd_version_state", **VERSION, state="failed") == [0]
    cpu = VERSION | {"provider": "CPUExecutionProvider"}
    assert scrape(client, "convd_servable_info", **cpu, precision="float32") == [1]
    [difference] = scrape(client, "convd_golden_difference_ratio", **cpu)
    [tolerance] = scrape(client, "convd_golden_tolerance_ratio", **cpu)
    assert 0 <= difference <= tolerance
    assert len(scrape(client, "convd_accuracy_ratio", **VERSION)) == 1
    assert sum(scrape(client, "convd_baseline_prediction_ratio", **VERSION)) == pytest.approx(1)
    assert scrape(client, "convd_queue_rows", **VERSION) == [0]
    assert scrape(client, "convd_queue_age_seconds", **VERSION) == [0]
    assert scrape(client, "convd_queue_limit_rows", **VERSION) == [1024]


def test_the_server_and_its_process_are_shown(client: Client) -> None:
    assert scrape(client, "convd_ready") == [1]
    assert scrape(client, "convd_waiting_calls") == [0]
    assert scrape(client, "convd_waiting_calls_limit") == [256]
    assert len(scrape(client, "convd_build_info")) == 1
    for name in ("convd_process_threads", "process_open_fds", "process_resident_memory_bytes"):
        assert scrape(client, name)[0] > 0
    assert scrape(client, "python_gc_collections_total")


def test_every_stage_of_a_request_is_timed(client: Client, digits: Digits) -> None:
    client.classify(digits.encoded())
    for stage in ("decode", "preprocess", "queue", "inference", "postprocess"):
        [count] = scrape(client, "convd_stage_duration_seconds_count", **VERSION, stage=stage)
        assert count >= 1
    [busy] = scrape(client, "convd_batch_duration_seconds_sum", **VERSION)
    assert busy > 0


def test_a_failed_load_is_counted_by_its_cause(repository: Path, published: Path) -> None:
    for version, alter in (("2", lie_about_the_golden_answers), ("3", alter_model)):
        shutil.copytree(published, repository / "digits" / version)
        alter(repository / "digits" / version)
    with running_server(repository) as client:
        wait_until(lambda: scrape(client, "convd_version_state", version="1", state="available"))
        for version, cause in (("2", "golden"), ("3", "artifact")):
            labels = {"model": "digits", "version": version}
            assert scrape(client, "convd_load_failures_total", **labels, cause=cause) == [1]
            assert scrape(client, "convd_version_state", **labels, state="failed") == [1]


def test_a_version_that_is_gone_is_forgotten_after_a_while() -> None:
    now = 0.0
    statuses = [VersionStatus("digits", 1, State.FAILED), VersionStatus("digits", 2, State.FAILED)]
    forgotten: list[tuple[str, str]] = []
    registry = CollectorRegistry()
    VersionCollector(
        registry,
        lambda: statuses,
        lambda model, version: forgotten.append((model, version)),
        clock=lambda: now,
    )
    labels = VERSION | {"state": "failed"}
    assert registry.get_sample_value("convd_version_state", labels) == 1
    statuses = statuses[1:]
    assert registry.get_sample_value("convd_version_state", labels) is None
    assert forgotten == []
    now = KEEP_SECONDS + 1
    list(registry.collect())
    list(registry.collect())
    assert forgotten == [("digits", "1")]


def test_the_evaluation_data_themselves_are_no_drift(digits: Digits, client: Client) -> None:
    examples = len(digits)
    for start in range(0, 600, 60):
        pictures = [digits.picture(index % examples) for index in range(start, start + 60)]
        client.classify(*map(png, pictures))
    for of in ("class", "confidence"):
        [index] = scrape(client, "convd_drift_index", **VERSION, of=of)
        assert index < 0.1
