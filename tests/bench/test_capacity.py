"""The arithmetic of docs/scaling.md, and the pages that its figures come from."""

import pytest

from bench.capacity import IMAGES_PER_SECOND, UTILISATION, Engine, Need, engines, need
from tests.support import ROOT


def needed(engine: Engine, rate: float) -> Need:
    return need(engine, rate, picture_bytes=100_000, picture_seconds=0.004, edge_seconds=0.0005)


def test_the_pages_have_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert all(engine.images_per_second > 0 for engine in engines())


@pytest.mark.parametrize("rate", IMAGES_PER_SECOND)
def test_machines_carry_the_rate(rate: int) -> None:
    engine = Engine("CPU", "", 25.0, 1, 32, 0.04, decodes=True)
    found = needed(engine, rate)
    # 40 ms of the network and 4 ms of the picture.
    of_one_machine = 32 / 0.044
    assert found.machines * of_one_machine * UTILISATION >= rate
    assert found.machines == 2 or (found.machines - 1) * of_one_machine * UTILISATION < rate
    assert found.edge_machines * 16 / 0.0005 * UTILISATION >= rate
    assert found.gigabits_per_second == pytest.approx(rate * 8e-4)
    hourly = (found.machines * 32 + found.edge_machines * 16) * 0.04
    assert found.dollars_per_hour == pytest.approx(hourly)
    assert found.dollars_per_million == pytest.approx(hourly / 3600 / rate * 1e6)


def test_two_machines_are_the_least() -> None:
    found = needed(Engine("GPU", "", 5000.0, 16, 1, 4.0, decodes=False), 1)
    assert (found.machines, found.edge_machines) == (2, 2)
