"""A sample of the deliberate faults: one for each proof that stops them."""

import pytest

from tests.export.mutation.faults import MUTATIONS, Mutation
from tests.export.mutation.running import run

SAMPLE = {
    "the channels' means are reversed": "probabilities of CPUExecutionProvider",
    "a foreign file's softmax is left in": "the outputs are taken for logits",
    "pictures are cut from the corner": "otherwise than its own reference does",
    "the decoder mirrors": "predicts otherwise than the network on",
    "averaged weights (EMA) are dropped": "are not those in",
    "--mean and --std are exchanged": "--mean gave",
    "a library's filter is another": "own library",
    "golden answers belong to other pictures": "golden probabilities differ by",
}


def mutation(what: str) -> Mutation:
    (found,) = [each for each in MUTATIONS if each.what == what]
    return found


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("what", "message"), SAMPLE.items())
def test_a_fault_is_stopped_by_the_export_itself(what: str, message: str) -> None:
    outcome = run(mutation(what))
    assert outcome.stopped_by is not None
    assert message in outcome.text


def test_there_are_many_faults_and_each_has_its_own_name() -> None:
    assert len({each.what for each in MUTATIONS}) == len(MUTATIONS) >= 30
