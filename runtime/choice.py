"""Chooses an artifact's execution provider: the first that loads it and passes its self-test."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.errors import ArtifactError, public_reason
from convd.runtime.errors import SessionError
from convd.runtime.provider import ExecutionProvider
from convd.runtime.providers import KNOWN_PROVIDERS
from convd.runtime.selftest import SelfTestError, run_self_test
from convd.runtime.session import Session

PROVIDER_CHOICES = ("auto", *dict.fromkeys(provider.choice for provider in KNOWN_PROVIDERS))
"""What an operator can ask for; `auto` takes the first of the others that passes the self-test."""


def check_provider_choice(choice: str) -> str:
    """Refuse a choice that names no provider.

    Raises:
        ValueError: It is not one of `PROVIDER_CHOICES`.
    """
    if choice not in PROVIDER_CHOICES:
        raise ValueError(f"{choice!r} is not a provider: choose {', '.join(PROVIDER_CHOICES)}")
    return choice


ProviderChoice = Annotated[str, AfterValidator(check_provider_choice)]
"""A setting that holds one of `PROVIDER_CHOICES`."""

PrecisionPolicy = Literal["fastest", "exact"]
"""`exact` computes a float32 network in float32 only; `fastest` also allows bfloat16."""


@dataclass(frozen=True)
class Refusal:
    """A provider that was tried and rejected.

    Attributes:
        provider: The provider.
        reason: Why it was rejected, for everybody.
        detail: The same with what only the log may hold.
    """

    provider: ExecutionProvider
    reason: str
    detail: str

    @classmethod
    def of(cls, provider: ExecutionProvider, error: Exception) -> "Refusal":
        """A refusal that gives an error as its reason."""
        public, detail = public_reason(error), str(error) or type(error).__name__
        return cls(provider, *(text.removeprefix(f"{provider} ") for text in (public, detail)))

    def __str__(self) -> str:
        return f"{self.provider}: {self.reason}"

    def in_full(self) -> str:
        """The refusal for the log."""
        return f"{self.provider}: {self.detail}"


@dataclass(frozen=True)
class ProvenSession:
    """A session that has passed the golden self-test.

    Attributes:
        session: The session.
        golden_difference: Largest absolute difference from a golden probability.
        refusals: The providers that were tried before it, in order.
    """

    session: Session
    golden_difference: float
    refusals: tuple[Refusal, ...]


def candidates(wanted: ProviderChoice, policy: PrecisionPolicy) -> list[ExecutionProvider]:
    """The providers to try, in order of preference."""
    check_provider_choice(wanted)
    return [
        provider
        for provider in KNOWN_PROVIDERS
        if (wanted == "auto" or provider.choice == wanted)
        and (policy == "fastest" or provider.precision == "float32")
    ]


def prove_session(
    artifact: Artifact,
    load: Callable[[bytes, ExecutionProvider], Session],
    *,
    wanted: ProviderChoice = "auto",
    policy: PrecisionPolicy = "fastest",
) -> ProvenSession:
    """Load an artifact on the first provider that runs it and passes its golden self-test.

    Args:
        artifact: The artifact.
        load: Creates a session from the bytes of an ONNX file, as `Session` does.
        wanted: Which providers to try.
        policy: Which precisions to allow.

    Raises:
        SessionError: Every provider was rejected; the text gives the reason for each. The cause
            is a SelfTestError if a provider gave wrong answers.
        ArtifactError: The artifact is incomplete or altered.
    """
    model = artifact.read(MODEL_FILE)
    refusals: list[Refusal] = []
    wrong_answers: SelfTestError | None = None
    for provider in candidates(wanted, policy):
        try:
            session = load(model, provider)
            difference = run_self_test(artifact, session)
        except SelfTestError as error:
            wrong_answers = error
            refusals.append(Refusal.of(provider, error))
        except SessionError as error:
            refusals.append(Refusal.of(provider, error))
        except ArtifactError:
            raise
        # ONNX Runtime raises one class per status code, and plugins raise their own.
        except Exception as error:
            failure = SessionError("cannot run the network", detail=str(error))
            refusals.append(Refusal.of(provider, failure))
        else:
            return ProvenSession(session, difference, tuple(refusals))
    # The last resort, usually the CPU, is the reason to read first.
    refusals.reverse()
    detail = "; ".join(one.in_full() for one in refusals if one.detail != one.reason)
    raise SessionError("; ".join(map(str, refusals)), detail=detail) from wrong_answers
