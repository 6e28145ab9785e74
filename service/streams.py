"""Streams: batches that run on a core each, where that answers more requests than all cores do."""

import logging
from dataclasses import dataclass

from artifact.bundle import MODEL_FILE, Artifact
from runtime.providers import CPU_NAME
from runtime.selftest import run_self_test
from runtime.session import Session
from service.batching.engine import Engine
from service.settings import ServerSettings
from service.warmup import BatchCost, engine_of, relative_rate, warm_up

logger = logging.getLogger(__name__)

LEAST_RATE = 0.95
"""Rate of streams that are kept, as a multiple of that of all cores together. What calls take from
the cores under load costs streams less, since none waits for the one that was interrupted: so
nearly the same rate is enough."""


@dataclass(frozen=True)
class Streams:
    """A second session of a network, of which each core can run a batch by itself.

    Attributes:
        session: The session, which has given the golden answers.
        costs: What a batch of each size costs while all streams run.
        engine: The session as the batcher uses it.
    """

    session: Session
    costs: tuple[BatchCost, ...]
    engine: Engine


def faster_streams(
    artifact: Artifact, session: Session, costs: tuple[BatchCost, ...], settings: ServerSettings
) -> Streams | None:
    """Prove and measure streams beside a session that takes all cores.

    All streams together take as many rows as one batch on all cores, so that they need no more
    memory for what they compute with. Large batches of few streams are what some networks want:
    where the weights are most of the work, to read them once for many rows is worth more.

    Args:
        artifact: The artifact.
        session: What runs it on all cores.
        costs: What a batch of each size costs there.
        settings: The server's settings, with the model's own in place of them.

    Returns:
        None where streams are clearly slower than all cores together or do not give the golden
        answers, where somebody has chosen threads or executions, and where rows are to wait for
        company.
    """
    chosen = settings.intra_op_threads or settings.max_concurrent_executions
    if (
        chosen
        or settings.max_queue_delay_seconds
        or session.provider.name != CPU_NAME
        or session.cores is None
        or session.threads == 1
    ):
        return None
    executions = session.threads
    max_batch_size = -(-settings.max_batch_size // executions)
    try:
        streams = Session(
            artifact.read(MODEL_FILE),
            session.provider,
            intra_op_threads=1,
            max_batch_size=max_batch_size,
            max_concurrent_executions=executions,
            cores=session.cores.budget,
        )
        run_self_test(artifact, streams)
        shape = artifact.manifest.preprocessing.output_shape
        rate = relative_rate(streams, session, costs, shape)
        if rate < LEAST_RATE:
            return None
        stream_costs = warm_up(streams, shape, executions=executions)
    # All cores have given the right answers, so that nothing that is wrong here keeps the model
    # from being served. ONNX Runtime raises one class per status code.
    except Exception as error:
        logger.warning("no batch runs on a core of its own: %s", error)
        return None
    return Streams(streams, stream_costs, engine_of(streams, stream_costs, max_batch_size))
