import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from convd.client.connection import Connection
from convd.commands.load_generator import Sample, Workload, random_requests, run_workload
from convd.commands.load_report import plot, summarize
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
    samples = run_workload(
        Workload(Connection(address(client)), requests, seconds=0.5, concurrency=2, connections=1)
    )
    assert {sample.code for sample in samples} == {"OK"}
    assert {sample.rows for sample in samples} == {1, 3}


def test_an_open_loop_sends_what_its_rate_says(client: Client) -> None:
    requests = random_requests("digits", IMAGE)
    samples = run_workload(Workload(Connection(address(client)), requests, seconds=1.0, rate=40))
    assert len(samples) == 40
    assert sorted(sample.started_at for sample in samples) == [number / 40 for number in range(40)]


def test_refusals_are_counted_by_status(client: Client) -> None:
    requests = random_requests("unknown", IMAGE)
    samples = run_workload(Workload(Connection(address(client)), requests, seconds=0.2, rate=20))
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
