"""What a fuzz target is."""

import dataclasses
import random
from collections.abc import Callable, Mapping
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"

MutateBytes = Callable[[bytes], bytes]
"""The fuzzer's own mutation, which knows nothing of formats."""

Mutate = Callable[[bytes, random.Random, MutateBytes], bytes]
"""A mutation that knows the format: the input, its random numbers, and the fuzzer's own."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Something that reads bytes of others.

    Attributes:
        read: Reads an input, and raises if anything but a proper refusal comes of it.
        mutate: Changes an input so that its format stays valid more often than by chance.
        seeds: Valid inputs to begin with, by name.
        max_input_bytes: Longest input that is tried.
    """

    read: Callable[[bytes], None]
    mutate: Mutate
    seeds: Mapping[str, bytes]
    max_input_bytes: int


def corpus(name: str) -> dict[str, bytes]:
    """Inputs that the fuzzer found worth keeping for a target, by file name."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / name).glob("*"))}
