"""Every input of the corpus, and every one that once broke something, is read without fault."""

import random

import pytest

from tests.fuzz.target import corpus
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_read_without_fault(name: str) -> None:
    target = TARGETS[name]
    for data in (*target.seeds.values(), *corpus(name).values()):
        target.read(data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_are_read_without_fault(name: str) -> None:
    target = TARGETS[name]
    chance = random.Random(0)

    def change_a_byte(data: bytes) -> bytes:
        place = chance.randrange(len(data) or 1)
        return data[:place] + bytes((chance.randrange(256),)) + data[place + 1 :]

    changed = 0
    for seed in target.seeds.values():
        data = seed
        for _ in range(20):
            data = target.mutate(data, chance, change_a_byte)
            target.read(data)
            changed += data != seed
    assert changed > 10 * len(target.seeds)
