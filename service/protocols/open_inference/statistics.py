"""Converts the statistics of a version to the protocol's message."""

from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.statistics import Duration, Statistics


def statistics_message(name: str, version: int, counted: Statistics) -> pb.ModelStatistics:
    """Make the message of one version's statistics."""
    stages = counted.stages
    return pb.ModelStatistics(
        name=name,
        version=str(version),
        last_inference=counted.last_answer_unix_milliseconds,
        inference_count=counted.rows,
        execution_count=counted.batches,
        inference_stats=pb.InferStatistics(
            success=_duration(counted.success),
            fail=_duration(counted.failure),
            queue=_duration(counted.queue),
            compute_input=_duration(stages.input),
            compute_infer=_duration(stages.inference),
            compute_output=_duration(stages.output),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=size,
                compute_input=_duration(of_size.input),
                compute_infer=_duration(of_size.inference),
                compute_output=_duration(of_size.output),
            )
            for size, of_size in counted.by_batch_size.items()
        ],
        # Each request has a single response, with index 0.
        response_stats={
            "0": pb.InferResponseStatistics(
                compute_infer=_duration(stages.inference),
                compute_output=_duration(stages.output),
                success=_duration(counted.success),
                fail=_duration(counted.failure),
                cancel=_duration(counted.cancelled),
            )
        },
    )


def _duration(counted: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=counted.count, ns=counted.nanoseconds)
