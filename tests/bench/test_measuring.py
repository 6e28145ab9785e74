from pathlib import Path

import pytest

from bench.h2load import _parse, write_request
from bench.profile import _by_part


def test_a_request_is_framed_as_grpc_does(tmp_path: Path) -> None:
    path = write_request(tmp_path / "deep" / "request", b"abc")
    assert path.read_bytes() == b"\x00\x00\x00\x00\x03abc"


def test_h2load_is_read() -> None:
    text = """finished in 10.01s, 1234.50 req/s, 200.00KB/s
requests: 12345 total, 12345 started, 12345 done, 12345 succeeded, 0 failed, 0 errored, 0 timeout
time for request:      500us     20.00ms      1.25ms       200us    80.00%
"""
    result = _parse(text)
    assert result.requests_per_second == 1234.5
    assert result.mean_seconds == pytest.approx(1.25e-3)
    with pytest.raises(SystemExit, match="h2load failed"):
        _parse(text.replace("0 failed", "3 failed"))


def test_samples_go_to_the_innermost_part_that_is_known() -> None:
    answer = "_bootstrap (threading.py:9);answer (service/rpc/interceptor.py:1)"
    stacks = (
        f"{answer};run (onnxruntime/a.py:2) 3\n{answer} 2\n{answer};wait (threading.py:327) 50\n"
    )
    assert _by_part(stacks) == {"inference": 3, "interceptor": 2}
