"""Each provider is one value that holds everything that is known of it."""

from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from convd.artifact.precision import Precision
from convd.runtime.choice import PROVIDER_CHOICES, ProviderChoice, candidates
from convd.runtime.cpu import CPU
from convd.runtime.provider import ExecutionProvider
from convd.runtime.providers import KNOWN_PROVIDERS, golden_tolerances, installed_providers

STORED: tuple[Precision, ...] = ("float32", "float16", "int8")
"""The precisions in which networks are published."""


def test_no_two_rows_are_the_same_provider() -> None:
    assert len(set(KNOWN_PROVIDERS)) == len(KNOWN_PROVIDERS)


@pytest.mark.parametrize("provider", KNOWN_PROVIDERS, ids=str)
def test_every_provider_says_how_near_it_comes_to_each_network(
    provider: ExecutionProvider,
) -> None:
    for network in STORED:
        tolerance = provider.tolerances[provider.computes_in(network)]
        assert tolerance.golden > 0
        # Rounding to 8 bits is judged by accuracy, everything else by the source's answers.
        assert (tolerance.parity is None) == (network == "int8")
    assert provider.tolerances.keys() <= set(get_args(Precision))


def test_the_promises_of_published_artifacts_stay() -> None:
    assert golden_tolerances("float32") == {
        "CUDAExecutionProvider": {"float32": 1e-3},
        "OpenVINOExecutionProvider": {"bfloat16": 0.05, "float32": 1e-4},
        "CPUExecutionProvider": {"float32": 1e-4},
    }
    assert golden_tolerances("float16") == {
        "CUDAExecutionProvider": {"float16": 0.01},
        "OpenVINOExecutionProvider": {"bfloat16": 0.05, "float16": 0.01},
        "CPUExecutionProvider": {"float16": 0.01},
    }
    assert golden_tolerances("int8") == {
        "CUDAExecutionProvider": {"int8": 0.1},
        "OpenVINOExecutionProvider": {"int8": 0.1},
        "CPUExecutionProvider": {"int8": 0.05},
    }


def test_the_cpu_is_always_there_and_comes_last() -> None:
    assert installed_providers()[-1] is KNOWN_PROVIDERS[-1] is CPU


def test_every_provider_can_be_asked_for() -> None:
    assert PROVIDER_CHOICES == ("auto", "cuda", "openvino", "cpu")
    for provider in KNOWN_PROVIDERS:
        assert provider in candidates(provider.choice, "fastest")


def test_a_choice_that_names_no_provider_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="'gpu' is not a provider: choose auto, cuda, openvino"):
        candidates("gpu", "fastest")
    with pytest.raises(ValidationError, match="choose auto, cuda"):
        TypeAdapter(ProviderChoice).validate_python("gpu")
