"""Messages of comparisons."""

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.service.shadow.report import (
    TOTAL_VARIATION_BOUNDS,
    Answer,
    ComparisonReport,
    Difference,
    Outcome,
)

_SENT_CHANGES = 50


def comparison_message(report: ComparisonReport) -> pb.Comparison:
    """Write what a comparison has found."""
    count = max(report.compared, 1)
    return pb.Comparison(
        model_name=report.model,
        live_version=report.live,
        candidate_version=report.candidate,
        share=report.share,
        since_unix_seconds=report.since_unix_seconds,
        problem=report.problem,
        task=pb.TASK_MULTILABEL if report.multilabel else pb.TASK_MULTICLASS,
        waiting_images=report.waiting,
        images={str(outcome): report.outcomes[outcome] for outcome in Outcome},
        top1_agreements=report.top1,
        top_k=report.rank,
        top_k_agreements=report.top_k,
        live_confidence=report.live_confidence / count,
        candidate_confidence=report.candidate_confidence / count,
        confidence_difference=report.absolute_confidence / count,
        total_variation=report.total_variation / count,
        total_variation_bounds=TOTAL_VARIATION_BOUNDS,
        total_variation_counts=report.buckets,
        live_only_labels=report.only_live,
        candidate_only_labels=report.only_candidate,
        changes=[
            pb.PredictionChange(live_label=live, candidate_label=candidate, images=images)
            for (live, candidate), images in report.changes.most_common(_SENT_CHANGES)
        ],
        most_different=map(_image, report.differences),
    )


def _image(difference: Difference) -> pb.ComparedImage:
    picture = difference.picture
    return pb.ComparedImage(
        total_variation=difference.total_variation,
        sha256=difference.sha256,
        request_id=difference.request_id,
        unix_seconds=difference.unix_seconds,
        live=_classes(difference.live),
        candidate=_classes(difference.candidate),
        kept=picture and pb.KeptImage(media_type=picture.media_type, data=picture.data),
    )


def _classes(answer: Answer) -> list[pb.LabelProbability]:
    return [
        pb.LabelProbability(label=label, probability=probability) for label, probability in answer
    ]
