"""What `convd tune` decides, on figures that are given, and what it does on a real server."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psutil
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from convd.commands.load_report import LoadReport
from convd.commands.main import main
from convd.commands.tuning.configuration_text import UnchangeableError, with_choice
from convd.commands.tuning.engine_choice import (
    KEYS,
    EngineChoice,
    batch_sizes,
    parallelism,
    providers,
)
from convd.commands.tuning.frontier import Row, plot
from convd.commands.tuning.neighbours import disturbances, running_servers
from convd.commands.tuning.race import Course, Gain, Goal, Point
from convd.commands.tuning.trial_server import Contestant, Subject, TrialError, TrialServer
from convd.service.lifecycle.configuration import parse_configuration
from tests.digits import Digits
from tests.support import wait_until

CHOICES = st.builds(
    EngineChoice,
    provider=st.sampled_from(["auto", "cpu", "openvino"]),
    precision_policy=st.sampled_from(["fastest", "exact"]),
    intra_op_threads=st.integers(0, 64),
    max_concurrent_executions=st.integers(0, 64),
    max_batch_size=st.integers(1, 4096),
)

OTHER_LINES = st.lists(
    st.sampled_from(
        [
            "# what the operator thought",
            "labels: {stable: 3, canary: 4}   # moved on Monday",
            "version_policy:\n  specific: [3, 4]",
            "max_queue_size: 512",
            "",
        ]
    ),
    unique=True,
)


@given(written=CHOICES, chosen=CHOICES, others=OTHER_LINES, data=st.data())
def test_what_the_operator_wrote_stays_and_the_choice_is_in_force(
    written: EngineChoice, chosen: EngineChoice, others: list[str], data: st.DataObject
) -> None:
    own = [f"{key}: {value}  # because of {key}" for key, value in written.changes().items()]
    text = "\n".join(data.draw(st.permutations([*own, *others])))
    changed = with_choice(text, chosen)
    found = parse_configuration(changed.encode())
    before = parse_configuration(text.encode())
    assert EngineChoice.of(found) == chosen
    assert found.model_dump(exclude=set(KEYS)) == before.model_dump(exclude=set(KEYS))
    for line in others:
        assert line in changed
    for key in written.changes():
        assert f"# because of {key}" in changed
    assert with_choice(changed, chosen) == changed


def test_flow_style_is_changed_in_place_or_left_alone() -> None:
    assert with_choice("{max_batch_size: 8}", EngineChoice(max_batch_size=4)).startswith("{max_ba")
    with pytest.raises(UnchangeableError, match="max_batch_size: 4"):
        with_choice("{provider: cpu}", EngineChoice(max_batch_size=4))


@given(st.integers(1, 256))
def test_no_choice_wants_more_than_the_cores(cores: int) -> None:
    tried = parallelism(EngineChoice(), cores)
    assert len(set(tried)) == len(tried) <= 20
    assert all(one.intra_op_threads * one.max_concurrent_executions <= cores for one in tried)
    assert any(one.intra_op_threads == cores for one in tried)


def test_a_policy_of_exact_answers_is_kept() -> None:
    assert {one.precision_policy for one in providers(EngineChoice(precision_policy="exact"))} == {
        "exact"
    }
    assert "cpu" in {one.provider for one in providers(EngineChoice())}


def test_no_batch_is_larger_than_the_callers_fill() -> None:
    sizes = [one.max_batch_size for one in batch_sizes(EngineChoice(), 16)]
    assert sizes == [1, 4, 8, 16]


class GivenRates:
    """Answers as a server would at given rates; the rates of a machine that is busy now and then.

    Args:
        rates: Images per second of each choice on a quiet machine.
        speeds: How fast the machine is while each measurement is made.
    """

    workers = 1

    def __init__(self, rates: dict[int, float], speeds: list[float]) -> None:
        self.rates = rates
        self.speeds = iter(speeds * 100)
        self.unloaded: list[str] = []

    def measure(self, name: str, callers: int, seconds: float) -> LoadReport:
        rate = self.rates[int(name)] * next(self.speeds) * min(1.0, callers / 8)
        return LoadReport(
            seconds, 100, rate, rate, {"OK": 100}, {50.0: 0.1, 99.0: callers / rate}, {}
        )

    def unload(self, name: str) -> None:
        self.unloaded.append(name)


def contestants(server: GivenRates) -> list[Contestant]:
    return [
        Contestant(EngineChoice(max_batch_size=rows), cast(TrialServer, server), str(rows), "")
        for rows in server.rates
    ]


@given(
    rates=st.lists(st.floats(50, 500), min_size=2, max_size=7),
    speeds=st.lists(st.floats(0.97, 1.03), min_size=31, max_size=31),
)
def test_a_race_finds_the_best_within_the_noise(rates: list[float], speeds: list[float]) -> None:
    server = GivenRates(dict(enumerate(rates, start=1)), speeds)
    incumbent, *others = contestants(server)
    best = Course(Goal(32, None, 1.0)).race(incumbent, others)
    assert server.rates[int(best.name)] >= max(rates) * 0.97 / 1.03 / 1.03
    assert incumbent.name not in server.unloaded
    assert best.name not in server.unloaded
    assert len(server.unloaded) == len(others) - (best is not incumbent)


def test_a_bound_of_latency_makes_callers_fewer_until_it_is_kept() -> None:
    server = GivenRates({1: 100.0, 2: 80.0}, [1.0])
    first, second = contestants(server)
    course = Course(Goal(32, 0.1, 1.0))
    assert course.run_once(first) == pytest.approx(100.0)
    assert [point.callers for point in course.points] == [32, 8]
    assert course.run_once(second) > 0
    assert Course(Goal(32, 1e-3, 1.0)).run_once(first) == pytest.approx(-1 / 12.5)


@given(
    st.lists(st.floats(0.5, 1.0), min_size=7, max_size=7),
    st.lists(st.floats(0.9, 1.1), min_size=7, max_size=7),
)
def test_equal_choices_never_differ_by_more_than_their_noise_and_a_trifle(
    busy: list[float], other: list[float]
) -> None:
    assert not Gain.of(busy, busy).is_real
    # What disturbs both alike is no noise.
    twice = Gain.of([2 * one for one in busy], busy)
    assert twice.ratio == pytest.approx(2)
    assert twice.is_real
    gain = Gain.of([one * two for one, two in zip(busy, other, strict=True)], busy)
    assert gain.ratio == pytest.approx(sorted(other)[3])


@pytest.fixture(scope="module")
def server(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialServer]:
    subject = Subject(
        published, [Digits().encoded(0), Digits().encoded(1)], {"max_queue_size": 512}
    )
    with TrialServer(tmp_path_factory.mktemp("trials"), subject) as server:
        yield server


def test_each_choice_is_served_on_its_own(server: TrialServer) -> None:
    default = server.load(EngineChoice())
    small = server.load(EngineChoice(provider="cpu", max_batch_size=1, intra_op_threads=1))
    for one in (default, small, default):
        report = one.measure(4, 0.2)
        assert report.codes.keys() == {"OK"}
        assert one.computed_by == "CPUExecutionProvider (float32)"
    small.close()
    with pytest.raises(TrialError, match="requests ended with"):
        small.measure(1, 0.1)
    default.measure(1, 0.1)


def test_a_provider_that_is_absent_is_refused_with_its_reason(server: TrialServer) -> None:
    with pytest.raises(TrialError, match="CUDA"):
        server.load(EngineChoice(provider="cuda"))


def test_servers_on_this_machine_are_noticed(tmp_path: Path) -> None:
    program = tmp_path / "convd"
    program.write_text("input()")
    with subprocess.Popen([sys.executable, program, "serve"], stdin=subprocess.PIPE) as server:
        wait_until(lambda: server.pid in running_servers())
        assert any(str(server.pid) in sentence for sentence in disturbances())
    assert server.pid not in running_servers()


def tune(repository: Path, *flags: object) -> Result:
    words = ["tune", "--repository", repository, "--model", "digits", "--search-seconds", 0, *flags]
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_command_compares_what_is_configured_with_the_default(
    repository: Path, tmp_path: Path
) -> None:
    file = repository / "digits" / "config.yaml"
    text = "max_batch_size: 1  # for a lone caller\nmax_queue_size: 300\n"
    file.write_text(text)
    picture = tmp_path / "frontier.png"
    result = tune(repository, "--dry-run", "--json", "--concurrency", 8, "--plot", picture)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["version"] == 1
    assert {row["choice"] for row in report["rows"]} == {"default", "batches of 1"}
    roles = {row["role"] for row in report["rows"]}
    assert roles in ({"default, best", "current"}, {"default", "current, best"})
    assert any(row["on_frontier"] for row in report["rows"])
    assert not report["written"]
    assert file.read_text() == text
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_bound_that_nothing_keeps_is_a_failure_that_changes_nothing(repository: Path) -> None:
    result = tune(repository, "--p99-ms", 0.001, "--concurrency", 1)
    assert result.exit_code == 1
    assert "no choice keeps a p99 of 0.001 ms" in result.output
    assert not (repository / "digits" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("configuration", "golden", "flags", "text"),
    [
        ("", True, ["--model", "digit"], "has no model 'digit'; its models: digits"),
        ("max_bach_size: 3", True, [], "did you mean max_batch_size"),
        ("version_policy: {specific: [7]}", True, [], "it has 1"),
        ("provider: cuda", True, [], "CUDA"),
        ("", False, [], "golden/0.png is missing"),
        ("", True, ["--plot", "/nowhere/frontier.png"], "/nowhere is not a folder"),
        ("", True, ["--repository", "s3:/bucket"], "s3:/bucket"),
    ],
)
def test_what_cannot_be_tuned_is_said_in_one_line(
    repository: Path, configuration: str, golden: bool, flags: list[str], text: str
) -> None:
    (repository / "digits" / "config.yaml").write_text(configuration)
    if not golden:
        (repository / "digits" / "1" / "golden" / "0.png").unlink()
    result = tune(repository, *flags)
    assert result.exit_code == 1, result.output
    assert text in result.output
    assert "Traceback" not in result.output


def test_a_signal_leaves_no_server_behind(repository: Path) -> None:
    words = ["-m", "convd", "tune", "--repository", str(repository), "--model", "digits"]
    command = [sys.executable, *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as process:
        # Its first server is there once it has a child.
        wait_until(lambda: psutil.Process(process.pid).children())
        (server,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    wait_until(lambda: not server.is_running())


def test_the_frontier_is_drawn_with_its_bound(tmp_path: Path) -> None:
    rows = [Row("default", 32, 100.0, 3.0, 5.0, "default", on_frontier=True)]
    plot(rows, tmp_path / "frontier.svg", "digits", 4.0)
    assert "<svg" in (tmp_path / "frontier.svg").read_text()


def test_a_point_knows_its_percentile() -> None:
    report = LoadReport(1.0, 1, 1.0, 1.0, {"OK": 1}, {50.0: 0.1, 99.0: 0.2}, {})
    (one,) = contestants(GivenRates({1: 1.0}, [1.0]))
    assert Point(one, 1, report).p99_seconds == 0.2
