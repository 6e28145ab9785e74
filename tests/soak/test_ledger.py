"""The reckoning of the soak notices what is counted wrong, and forgives what deaths explain."""

from collections import Counter

import pytest

from tests.soak.ledger import Attempt, Death, Key, Ledger
from tests.soak.vitals import rise

OK: Key = ("steady", "/Classify", "OK")
UNAVAILABLE: Key = ("steady", "/Classify", "UNAVAILABLE")
DEATH = Death(reported_from=10.0, died_at=11.0, replaced_at=15.0)


def ledger(*attempts: Attempt) -> Ledger:
    noted = Ledger()
    for attempt in attempts:
        noted.note(attempt)
    return noted


@pytest.mark.parametrize("counted", [0, 2])
def test_without_deaths_every_call_is_counted_once(counted: int) -> None:
    noted = ledger(Attempt(OK, 1.0, 1.1))
    assert noted.differences(Counter({OK: 1}), ["steady"], []) == []
    assert noted.differences(Counter({OK: counted}), ["steady"], [])
    assert noted.differences(Counter({OK: counted}), ["another"], []) == []


def test_a_worker_takes_with_it_only_what_it_has_not_reported() -> None:
    in_time, unreported = Attempt(OK, 8.0, 9.0), Attempt(OK, 10.2, 10.5)
    assert ledger(in_time, unreported).differences(Counter({OK: 1}), ["steady"], [DEATH]) == []
    assert ledger(in_time, unreported).differences(Counter({OK: 0}), ["steady"], [DEATH])


def test_calls_that_were_cut_are_not_counted_or_counted_as_answered() -> None:
    cut = ledger(Attempt(UNAVAILABLE, 10.9, 12.0))
    for counted in (Counter[Key](), Counter({OK: 1})):
        assert cut.differences(counted, ["steady"], [DEATH]) == []
    assert cut.differences(Counter({OK: 2}), ["steady"], [DEATH])
    assert cut.differences(Counter({UNAVAILABLE: 2}), ["steady"], [DEATH])
    assert cut.differences(Counter(), ["steady"], [])


def test_only_the_second_half_has_to_be_flat() -> None:
    assert rise([0.0, 50.0, 100.0, 100.0, 100.0, 100.0]) == pytest.approx(0.0)
    assert rise([0.0, 0.0, 0.0, 0.0, 10.0, 20.0]) == pytest.approx(20.0)
