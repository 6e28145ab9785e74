"""Comparisons of two versions, as a client gets them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from convd.client.results import Task
from convd.protos.convd.v1 import classification_pb2 as pb


@dataclass(frozen=True, slots=True)
class Change:
    """How often one version predicts one thing, and the other another.

    Attributes:
        live: What the live version predicts.
        candidate: What the candidate predicts.
        images: For how many images.
    """

    live: str
    candidate: str
    images: int


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """An image to which two versions answer differently.

    Attributes:
        total_variation: How far the answers are apart, 0 to 1.
        sha256: Of the file as it was sent, or of its pixels.
        request_id: Of the request that it came with; empty if its caller gave none.
        unix_seconds: When it was answered.
        live: The live version's most probable classes, with their probabilities.
        candidate: The candidate's most probable classes.
        media_type: Of the image that is kept; empty if none is.
        data: The image that is kept.
    """

    total_variation: float
    sha256: str
    request_id: str
    unix_seconds: float
    live: tuple[tuple[str, float], ...]
    candidate: tuple[tuple[str, float], ...]
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the answers of a candidate differ from those of the version that answers.

    Attributes:
        model: The model.
        live: The version that answers.
        candidate: The version that it is compared with.
        share: The share of the images that is compared.
        since_unix_seconds: When it began.
        problem: Why nothing is compared now; empty if something is.
        task: How the labels relate to each other.
        waiting: Images that wait to be compared.
        images: Images by what became of them: compared, dropped, unfit, unavailable, failed.
        top1_agreements: Images for which both predict the same.
        top_k: The k of the top-k agreements.
        top_k_agreements: Images whose most probable class is among the k first of the candidate.
        live_confidence: Mean confidence of the live version.
        candidate_confidence: Mean confidence of the candidate.
        confidence_difference: Mean of the absolute differences of both.
        total_variation: Mean total variation of the answers.
        total_variation_counts: Images up to each upper bound, and over the one before; the last
            bound is infinity.
        live_only_labels: Classes that only the live version has.
        candidate_only_labels: Classes that only the candidate has.
        changes: What is predicted differently, the most frequent first.
        most_different: The images that differ most, these first.
    """

    model: str
    live: int
    candidate: int
    share: float
    since_unix_seconds: float
    problem: str
    task: Task
    waiting: int
    images: Mapping[str, int]
    top1_agreements: int
    top_k: int
    top_k_agreements: int
    live_confidence: float
    candidate_confidence: float
    confidence_difference: float
    total_variation: float
    total_variation_counts: tuple[tuple[float, int], ...]
    live_only_labels: tuple[str, ...]
    candidate_only_labels: tuple[str, ...]
    changes: tuple[Change, ...]
    most_different: tuple[ComparedImage, ...]

    @property
    def compared(self) -> int:
        """Number of images that were compared."""
        return self.images["compared"]


def read_comparison(message: pb.Comparison) -> Comparison:
    """Read one comparison."""
    bounds = (*message.total_variation_bounds, float("inf"))
    return Comparison(
        model=message.model_name,
        live=message.live_version,
        candidate=message.candidate_version,
        share=message.share,
        since_unix_seconds=message.since_unix_seconds,
        problem=message.problem,
        task="multilabel" if message.task == pb.TASK_MULTILABEL else "multiclass",
        waiting=message.waiting_images,
        images=dict(message.images),
        top1_agreements=message.top1_agreements,
        top_k=message.top_k,
        top_k_agreements=message.top_k_agreements,
        live_confidence=message.live_confidence,
        candidate_confidence=message.candidate_confidence,
        confidence_difference=message.confidence_difference,
        total_variation=message.total_variation,
        total_variation_counts=tuple(zip(bounds, message.total_variation_counts, strict=True)),
        live_only_labels=tuple(message.live_only_labels),
        candidate_only_labels=tuple(message.candidate_only_labels),
        changes=tuple(
            Change(one.live_label, one.candidate_label, one.images) for one in message.changes
        ),
        most_different=tuple(map(_image, message.most_different)),
    )


def _image(message: pb.ComparedImage) -> ComparedImage:
    return ComparedImage(
        message.total_variation,
        message.sha256,
        message.request_id,
        message.unix_seconds,
        _classes(message.live),
        _classes(message.candidate),
        message.kept.media_type,
        message.kept.data,
    )


def _classes(messages: Iterable[pb.LabelProbability]) -> tuple[tuple[str, float], ...]:
    return tuple((one.label, one.probability) for one in messages)
