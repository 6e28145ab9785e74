from pathlib import Path

import pytest

from tests.digits import Digits
from tests.service.metrics.support import scrape
from tests.support import Client, running_server

VERSION = {"model": "digits", "version": "1"}
# The names and labels that Triton's documentation gives.
COUNTERS = [
    "nv_inference_request_success",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
]


def test_requests_are_told_under_triton_s_names(repository: Path, digits: Digits) -> None:
    image = digits.encoded()
    with running_server(repository, triton_metrics=True) as client:
        client.classify(image, image, image)
        found = {name: scrape(client, name, **VERSION) for name in COUNTERS}
        assert found["nv_inference_request_success"] == [1]
        assert found["nv_inference_count"] == [3]
        assert found["nv_inference_exec_count"] == [1]
        for name in COUNTERS:
            assert len(found[name]) == 1
        [total] = found["nv_inference_request_duration_us"]
        parts = [found[name][0] for name in COUNTERS if name.endswith("_us")][1:]
        assert 0 < sum(parts) <= total * 1.01
        for reason in ("OTHER", "CANCELED"):
            assert scrape(client, "nv_inference_request_failure", **VERSION, reason=reason) == [0]
        assert scrape(client, "nv_inference_pending_request_count", **VERSION) == [0]


@pytest.mark.parametrize("name", COUNTERS)
def test_they_are_absent_unless_asked_for(client: Client, name: str) -> None:
    assert scrape(client, name) == []
