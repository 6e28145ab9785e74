"""Parity: the same pictures through the user's network and through what is served."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convd.artifact.evidence import ParityReport
from convd.artifact.graph_contract import REQUIRED, Extras, OutputArrays
from convd.artifact.manifest import NetworkOutput, Task
from convd.artifact.precision import Precision
from convd.export.progress import Advance
from convd.export.proof.pictures import BATCH_SIZES, PicturePool
from convd.export.proof.reference import probabilities_of
from convd.runtime.session import Session

_SERVED_LOGITS: dict[Task, NetworkOutput] = {
    "multiclass": "logits",
    "multilabel": "independent_logits",
}
_SMALLEST = 1e-6
"""Below it, the logarithm of a float32 probability says more about rounding than about the net."""


@dataclass(frozen=True)
class ExpectedAnswers:
    """What the user's network answers to a pool of pictures, each alone.

    Attributes:
        pool: The pictures.
        outputs: Its outputs, float32 `[pictures, outputs]`.
        output: What they are.
        temperature: What the served logits are divided by.
        source: What answered, in words.
        features: What its last layer takes, float32 `[pictures, length]`; None where that is not
            served.
    """

    pool: PicturePool
    outputs: NDArray[np.float32]
    output: NetworkOutput
    temperature: float
    source: str
    features: NDArray[np.float32] | None = None

    @property
    def task(self) -> Task:
        """Whether the labels exclude each other."""
        return "multilabel" if self.output.startswith("independent") else "multiclass"


def served_output(task: Task) -> NetworkOutput:
    """What the `logits` of a served graph are."""
    return _SERVED_LOGITS[task]


def measure_parity(
    expected: ExpectedAnswers,
    session: Session,
    network_precision: Precision = "float32",
    advance: Advance = lambda _: None,
) -> ParityReport:
    """Compare a session with the user's network, in batches of every size and mixture.

    Two things are compared: the probabilities that belong to the served logits with those of the
    user's network, and the served probabilities with those of the user's network or, where there is
    a temperature, with those that belong to the served logits once they are divided by it. Together
    they prove the served probabilities, although a network that ends in a sigmoid does not show its
    logits.

    Args:
        expected: The user's network's answers, each picture alone: what a batch answers must not
            depend on the company in it, nor on the place.
        session: What is served, loaded as serving loads it.
        network_precision: The precision of what is served.
        advance: Told of each batch.
    """
    served_logits = served_output(expected.task)
    wanted = probabilities_of(expected.output, expected.outputs)
    exact = normalised(wanted, expected.task)
    logit_difference = probability_difference = 0.0
    feature_difference = None if expected.features is None else 0.0
    agreed = images = 0
    for indices in expected.pool.batches():
        answer = session.run(expected.pool.images[indices], extras_of(session))
        plain = probabilities_of(served_logits, answer.logits)
        tempered = probabilities_of(served_logits, answer.logits, expected.temperature)
        probability_difference = max(
            probability_difference,
            _difference(plain, exact[indices]),
            _difference(
                answer.probabilities, wanted[indices] if expected.temperature == 1 else tempered
            ),
        )
        logit_difference = max(logit_difference, _log_difference(plain, exact[indices]))
        if feature_difference is not None and expected.features is not None:
            feature_difference = max(
                feature_difference, _feature_difference(answer, expected.features[indices])
            )
        agreed += _agreeing(plain, wanted[indices], multilabel=expected.task == "multilabel")
        images += len(indices)
        advance(1)
    precision = session.provider.computes_in(network_precision)
    return ParityReport(
        reference=expected.source,
        provider=session.provider.name,
        precision=precision,
        batch_sizes=BATCH_SIZES,
        images=images,
        max_logit_difference=logit_difference,
        max_probability_difference=probability_difference,
        probability_limit=session.provider.tolerances[precision].parity,
        top1_agreement=agreed / images,
        max_feature_difference=feature_difference,
    )


def extras_of(session: Session) -> Extras:
    """The optional outputs that a session has."""
    return frozenset(output.name for output in session.outputs if output not in REQUIRED)


def _feature_difference(answer: OutputArrays, wanted: NDArray[np.float32]) -> float:
    """Largest difference of a feature, and of a mean of activation maps, to the largest feature."""
    if answer.features is None:
        return float("inf")
    found = [answer.features]
    if answer.activation_maps is not None:
        found.append(answer.activation_maps.mean(axis=(2, 3), dtype=np.float64))
    scale = max(float(np.abs(wanted).max()), 1.0)
    return max(_difference(each, wanted.astype(np.float64)) for each in found) / scale


def normalised(probabilities: NDArray[np.float64], task: Task) -> NDArray[np.float64]:
    """Rows that sum to exactly 1, as a softmax gives them; a network that rounds misses that."""
    if task == "multilabel":
        return probabilities
    total = probabilities.sum(axis=1, keepdims=True)
    rows: NDArray[np.float64] = probabilities / np.where(total > 0, total, 1)
    return rows


def _agreeing(found: NDArray[np.float64], wanted: NDArray[np.float64], *, multilabel: bool) -> int:
    """Number of rows with the same prediction."""
    if found.shape != wanted.shape:
        return 0
    if multilabel:
        return int(((found >= 0.5) == (wanted >= 0.5)).all(axis=1).sum())
    return int((found.argmax(axis=1) == wanted.argmax(axis=1)).sum())


def _log_difference(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """Difference of logits: of logarithms of probabilities, as far as those have digits."""
    if found.shape != wanted.shape:
        return float("inf")
    return _difference(*(np.log(np.maximum(each, _SMALLEST)) for each in (found, wanted)))


def _difference(found: NDArray[np.floating], wanted: NDArray[np.float64]) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    difference = float(np.abs(found.astype(np.float64) - wanted).max())
    return difference if np.isfinite(difference) else float("inf")
