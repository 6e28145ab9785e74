"""What `convd tune` chooses for a model, and the values that are worth trying on a machine."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from convd.runtime.choice import PrecisionPolicy
from convd.runtime.provider import ExecutionProvider
from convd.runtime.providers import KNOWN_PROVIDERS, installed_providers
from convd.service.lifecycle.configuration import ModelConfiguration

_BATCH_SIZES = (1, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class EngineChoice:
    """Settings of a model that decide how fast it answers; the defaults are the server's.

    Attributes:
        provider: The execution provider, or `auto`.
        precision_policy: Whether a float32 network may be computed in lower precision.
        intra_op_threads: Threads of one inference; 0 lets the server decide.
        max_concurrent_executions: Batches that run at the same time; 0 lets the server decide.
        max_batch_size: Maximum rows in one batch.
    """

    provider: str = "auto"
    precision_policy: PrecisionPolicy = "fastest"
    intra_op_threads: int = 0
    max_concurrent_executions: int = 0
    max_batch_size: int = 32

    @classmethod
    def of(cls, configuration: ModelConfiguration) -> "EngineChoice":
        """The choice that a model's `config.yaml` makes."""
        written = configuration.model_dump(include=set(KEYS), exclude_none=True)
        return cls(**written)

    def changes(self) -> dict[str, Any]:
        """The settings that are not the default's, as `config.yaml` has them."""
        default = EngineChoice()
        return {
            key: value
            for key, value in dataclasses.asdict(self).items()
            if value != getattr(default, key)
        }

    def but(self, **changes: Any) -> "EngineChoice":  # noqa: ANN401
        """The same choice with some of its settings changed."""
        return dataclasses.replace(self, **changes)

    def __str__(self) -> str:
        words = {
            "provider": f"{self.provider}",
            "precision_policy": f"{self.precision_policy} precision",
            "intra_op_threads": _count(self.intra_op_threads, "thread"),
            "max_concurrent_executions": _count(self.max_concurrent_executions, "execution"),
            "max_batch_size": f"batches of {self.max_batch_size}",
        }
        return ", ".join(words[key] for key in self.changes()) or "default"


KEYS = tuple(field.name for field in dataclasses.fields(EngineChoice))
"""The keys of `config.yaml` that are chosen."""


def providers(choice: EngineChoice) -> list[EngineChoice]:
    """The choice on every provider, and in every precision, that this machine has."""
    exact = choice.precision_policy == "exact"
    return [
        choice.but(
            provider=one.choice,
            precision_policy="exact" if exact or _is_the_exact_one(one) else "fastest",
        )
        for one in installed_providers()
        if not exact or one.precision == "float32"
    ]


def parallelism(choice: EngineChoice, cores: int) -> list[EngineChoice]:
    """The choice with all, and with half, of the cores, divided into threads and executions."""
    kept_busy = {cores, max(1, cores // 2)}
    counts = sorted({1, cores, *(1 << power for power in range(cores.bit_length()))})
    return [
        choice.but(intra_op_threads=threads, max_concurrent_executions=executions)
        for threads in counts
        for executions in counts
        if threads * executions in kept_busy
    ]


def batch_sizes(choice: EngineChoice, callers: int) -> list[EngineChoice]:
    """The choice with larger and smaller batches, none larger than the callers could fill."""
    return [
        choice.but(max_batch_size=rows)
        for rows in _BATCH_SIZES
        if rows != choice.max_batch_size and (rows <= callers or rows < choice.max_batch_size)
    ]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _is_the_exact_one(provider: ExecutionProvider) -> bool:
    """Whether the same provider can also compute in lower precision."""
    return provider.precision == "float32" and any(
        one.choice == provider.choice and one.precision != "float32" for one in KNOWN_PROVIDERS
    )
