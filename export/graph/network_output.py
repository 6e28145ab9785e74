"""Decides what a network's outputs are: logits, probabilities, one sigmoid, many.

A wrong guess here publishes wrong answers that look right, so nothing is guessed: the graph's end
and the values have to agree, or the user has to say it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from convd.artifact.manifest import NetworkOutput, Task
from convd.export.errors import NetworkOutputError
from convd.export.graph.ending import GraphEnd

Activation = Literal["auto", "softmax", "sigmoid", "none"]
"""What has still to be applied to a network's outputs to make probabilities of them."""

OWN_PROBABILITIES: tuple[NetworkOutput, ...] = (
    "probabilities",
    "one_probability",
    "independent_probabilities",
)
"""Outputs that are probabilities already."""

_SUM_DIFFERENCE = 1e-3
_NORM_DIFFERENCE = 1e-3

_TASKS: dict[NetworkOutput, Task] = {
    "logits": "multiclass",
    "probabilities": "multiclass",
    "log_probabilities": "multiclass",
    "one_logit": "multiclass",
    "one_probability": "multiclass",
    "independent_logits": "multilabel",
    "independent_probabilities": "multilabel",
}

_IN_WORDS: dict[NetworkOutput, str] = {
    "logits": "logits of classes that exclude each other; softmax is applied",
    "probabilities": "probabilities of classes that exclude each other, as they are",
    "log_probabilities": "logarithms of probabilities; the exponential is applied",
    "one_logit": "one logit; its sigmoid p belongs to the second label, 1 - p to the first",
    "one_probability": "one probability p, of the second label; 1 - p is the first's",
    "independent_logits": "logits of independent labels; a sigmoid is applied to each",
    "independent_probabilities": "probabilities of independent labels, as they are",
}


@dataclass(frozen=True)
class OutputReading:
    """What a network's outputs are.

    Attributes:
        output: What they are.
        logits: Name of the value in the graph that holds the logits, before the network's own
            activation; None where only what comes out of the activation can be found.
        seen: What it was told from, in words.
    """

    output: NetworkOutput
    logits: str | None
    seen: str

    @property
    def task(self) -> Task:
        """Whether labels exclude each other."""
        return _TASKS[self.output]

    def __str__(self) -> str:
        return describe_output(self.output)


def describe_output(output: NetworkOutput) -> str:
    """What a network's outputs are, in words."""
    return _IN_WORDS[output]


def read_output(
    end: GraphEnd, values: NDArray[np.float32], activation: Activation, output_name: str
) -> OutputReading:
    """Tell what a network's outputs are.

    Args:
        end: The end of its graph.
        values: What it answers to pictures of many kinds, `[pictures, outputs]`.
        activation: What the user says.
        output_name: Name of the graph's output.

    Raises:
        NetworkOutputError: The graph's end, the values and the user do not agree, or do not tell;
            the text says what was seen and which flag settles it.
    """
    rows = _Rows(values)
    _refuse_what_is_no_classifier(end, rows, activation)
    if activation == "auto":
        return _infer(end, rows, output_name)
    return _as_told(end, rows, activation, output_name)


class _Rows:
    """What can be seen in a network's values."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        rows = values.astype(np.float64)
        self.columns = rows.shape[1]
        self.within_one = bool(((rows >= -1e-6) & (rows <= 1 + 1e-6)).all())
        self.sum_to_one = self.within_one and _near(rows.sum(axis=1), _SUM_DIFFERENCE)
        negative = bool((rows <= 1e-6).all())
        self.exponentials_sum_to_one = negative and _near(np.exp(rows).sum(axis=1), _SUM_DIFFERENCE)
        self.unit_length = _near(np.linalg.norm(rows, axis=1), _NORM_DIFFERENCE)
        self.non_negative = bool((rows >= 0).all())
        self.seen = (
            f"values from {rows.min():.4g} to {rows.max():.4g}, rows that sum to "
            f"{rows.sum(axis=1).min():.4g} to {rows.sum(axis=1).max():.4g}"
        )


def _near(values: NDArray[np.float64], tolerance: float) -> bool:
    return bool((np.abs(values - 1) <= tolerance).all())


def _refuse_what_is_no_classifier(end: GraphEnd, rows: _Rows, activation: Activation) -> None:
    if end.kind == "decision":
        raise NetworkOutputError(
            f"the network ends in {end.seen}: it gives decisions and no probabilities; export it "
            "without that layer"
        )
    if end.kind == "softmax over another axis":
        raise NetworkOutputError(
            f"the network ends in {end.seen}, which is not the dimension of the classes: write "
            "softmax(dim=1) there, or leave it out"
        )
    if end.kind == "softmax" and rows.columns == 1:
        raise NetworkOutputError(
            f"the network has one output and ends in {end.seen}: the softmax of one number is "
            "always 1; end it with a sigmoid instead, or leave it out"
        )
    if activation == "auto" and end.kind == "heads":
        raise NetworkOutputError(
            f"the network has several heads: {end.seen}; one softmax over all {rows.columns} "
            "outputs would be wrong: export each head as a network of its own, or give "
            "--activation softmax where they are one layer of classes that exclude each other"
        )


def _infer(end: GraphEnd, rows: _Rows, output_name: str) -> OutputReading:
    """Decide by the graph's end and the values; both have to agree."""
    seen = f"{end.seen} at the graph's end; {rows.seen}"
    if end.kind == "softmax":
        if rows.sum_to_one:
            return OutputReading("probabilities", end.before, seen)
        raise _disagreement(end, rows, "a softmax gives rows that sum to 1")
    if end.kind == "log softmax":
        if rows.exponentials_sum_to_one:
            return OutputReading("log_probabilities", None, seen)
        raise _disagreement(end, rows, "a log-softmax gives logarithms of rows that sum to 1")
    if end.kind == "sigmoid":
        if not rows.within_one:
            raise _disagreement(end, rows, "a sigmoid gives values from 0 to 1")
        before = None if end.before == output_name else end.before
        if rows.columns == 1:
            return OutputReading("one_probability", before, seen)
        if rows.sum_to_one:
            return OutputReading("probabilities", None, seen)
        return OutputReading("independent_probabilities", before, seen)
    if rows.sum_to_one and rows.columns > 1:
        return OutputReading("probabilities", None, seen)
    if rows.exponentials_sum_to_one and rows.columns > 1:
        return OutputReading("log_probabilities", None, seen)
    if end.kind == "clipped":
        raise _undecided(end, rows, "values that are clipped or squeezed are no usual logits")
    if rows.unit_length and rows.columns > 1:
        raise _undecided(end, rows, "rows of length 1 are an embedding and no logits")
    if rows.within_one:
        raise _undecided(end, rows, "they lie within 0 and 1 but are no rows of probabilities")
    return OutputReading("one_logit" if rows.columns == 1 else "logits", output_name, seen)


def _as_told(end: GraphEnd, rows: _Rows, activation: Activation, output_name: str) -> OutputReading:
    """Take the user's word where nothing that was seen contradicts it."""
    seen = f"--activation {activation}; {end.seen} at the graph's end; {rows.seen}"
    if activation == "none":
        if not rows.within_one:
            raise NetworkOutputError(
                f"--activation none says that the outputs are probabilities, but there are "
                f"{rows.seen}: give --activation softmax or sigmoid"
            )
        if rows.columns == 1:
            return OutputReading("one_probability", None, seen)
        kind: NetworkOutput = "probabilities" if rows.sum_to_one else "independent_probabilities"
        return OutputReading(kind, None, seen)
    if end.kind in ("softmax", "sigmoid", "heads") and rows.within_one:
        raise NetworkOutputError(
            f"the network ends in {end.seen}, so --activation {activation} would be applied to "
            "probabilities: leave it out, or give --activation none"
        )
    if activation == "sigmoid":
        if rows.exponentials_sum_to_one and rows.columns > 1:
            raise NetworkOutputError(
                "the outputs are logarithms of probabilities that sum to 1, so --activation "
                "sigmoid would be wrong: leave it out"
            )
        one = rows.columns == 1
        return OutputReading("one_logit" if one else "independent_logits", output_name, seen)
    if rows.columns == 1:
        raise NetworkOutputError(
            "the network has one output, and the softmax of one number is always 1: give "
            "--activation sigmoid"
        )
    return OutputReading("logits", output_name, seen)


def _disagreement(end: GraphEnd, rows: _Rows, rule: str) -> NetworkOutputError:
    return NetworkOutputError(
        f"the network ends in {end.seen}, but gives {rows.seen}, and {rule}: say what has still to "
        "be applied with --activation softmax, sigmoid or none"
    )


def _undecided(end: GraphEnd, rows: _Rows, why: str) -> NetworkOutputError:
    return NetworkOutputError(
        f"what the network's outputs are cannot be told: it ends in {end.seen} and gives "
        f"{rows.seen}; {why}: say what has still to be applied to make probabilities of them, with "
        "--activation softmax (classes exclude each other), sigmoid (labels are independent, or "
        "one output) or none (they are probabilities)"
    )


def check_labels(reading: OutputReading, columns: int, labels: Sequence[str]) -> None:
    """Refuse labels whose number does not fit the outputs.

    Raises:
        NetworkOutputError: There are more or fewer.
    """
    one = reading.output in ("one_logit", "one_probability")
    expected = 2 if one else columns
    if len(labels) == expected:
        return
    if one:
        raise NetworkOutputError(
            f"the network has one output ({reading}), but there are {len(labels)} labels: give "
            "--labels with two names, such as --labels cat,dog where 1 stands for dog"
        )
    raise NetworkOutputError(
        f"the network has {columns} outputs, but there are {len(labels)} labels: give --labels "
        "with one name for each output, in their order"
    )
