import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from convd.bench.h2load import _parse, write_request
from convd.bench.load import Load, Sample, random_requests, run_load
from convd.bench.profile import _by_part
from convd.bench.report import plot, summarize
from convd.commands.main import main
from tests.support import Client

IMAGE = (32, 32, 1)


def address(client: Client) -> str:
    return f"127.0.0.1:{client.grpc_port}"


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Sample,
            started_at=st.floats(0, 10),
            seconds=st.floats(1e-4, 5),
            code=st.sampled_from(["OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"]),
            rows=st.integers(1, 8),
        ),
        min_size=1,
        max_size=50,
    )
)
def test_every_request_is_in_the_report_once(samples: list[Sample]) -> None:
    report = summarize(samples)
    good = [sample for sample in samples if sample.code == "OK"]
    assert report.requests == sum(report.codes.values()) == len(samples)
    assert report.requests_per_second * report.seconds == pytest.approx(len(good))
    assert report.images_per_second * report.seconds == pytest.approx(sum(s.rows for s in good))
    for values, chosen in (
        (report.latency_seconds, good),
        (report.refusal_seconds, [sample for sample in samples if sample.code != "OK"]),
    ):
        assert list(values.values()) == sorted(values.values())
        if chosen:
            assert values[100.0] == pytest.approx(max(sample.seconds for sample in chosen))


def test_the_warm_up_is_left_out() -> None:
    samples = [Sample(0.5, 9.0, "OK", 1), Sample(1.5, 0.5, "OK", 1)]
    report = summarize(samples, warm_up_seconds=1.0)
    assert report.requests == 1
    assert report.latency_seconds[100.0] == 0.5
    with pytest.raises(ValueError, match="let the load last longer"):
        summarize(samples, warm_up_seconds=2.0)


def test_a_closed_loop_waits_for_its_answers(client: Client) -> None:
    requests = random_requests("digits", IMAGE, rows=[1, 3])
    samples = run_load(Load(address(client), requests, seconds=0.5, concurrency=2, connections=1))
    assert {sample.code for sample in samples} == {"OK"}
    assert {sample.rows for sample in samples} == {1, 3}


def test_an_open_loop_sends_what_its_rate_says(client: Client) -> None:
    requests = random_requests("digits", IMAGE)
    samples = run_load(Load(address(client), requests, seconds=1.0, rate=40))
    assert len(samples) == 40
    assert sorted(sample.started_at for sample in samples) == [number / 40 for number in range(40)]


def test_refusals_are_counted_by_status(client: Client) -> None:
    requests = random_requests("unknown", IMAGE)
    samples = run_load(Load(address(client), requests, seconds=0.2, rate=20))
    assert summarize(samples).codes == {"NOT_FOUND": 4}


def test_the_command_shows_percentiles_and_draws_them(client: Client, tmp_path: Path) -> None:
    picture = tmp_path / "latency.png"
    arguments = ["bench", "--model", "digits", "--server", address(client), "--rate", "20"]
    arguments += ["--duration-seconds", "0.5", "--warm-up-seconds", "0.1"]
    result = CliRunner().invoke(main, [*arguments, "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    assert "p99" in result.output
    assert "OK" in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    result = CliRunner().invoke(main, [*arguments, "--json"])
    report = json.loads(result.stdout)
    assert report["requests"] == sum(report["codes"].values())
    assert {"50.0", "99.0", "100.0"} <= report["latency_seconds"].keys()


def test_the_command_needs_a_model_that_is_there(client: Client) -> None:
    arguments = ["bench", "--model", "unknown", "--server", address(client)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "NOT_FOUND" in result.output


def test_nothing_to_plot_is_lost(tmp_path: Path) -> None:
    samples = [Sample(0.1 * n, 0.01, "OK" if n % 2 else "UNAVAILABLE", 1) for n in range(10)]
    plot(samples, tmp_path / "plot.svg", "both")
    text = (tmp_path / "plot.svg").read_text()
    assert "<svg" in text


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
