"""Instances: batches on a core each, where that answers more requests than all cores together."""

import logging
from dataclasses import dataclass

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.runtime.selftest import run_self_test
from convd.runtime.session import Session
from convd.service.batching.engine import Engine
from convd.service.servables.warmup import BatchCost, engine_of, relative_rate, warm_up
from convd.service.settings import ServerSettings

logger = logging.getLogger(__name__)

LEAST_RATE = 0.95
"""Rate of instances that are kept, as a multiple of that of all cores together. What calls take
from the cores under load costs instances less, since none waits for the one that was interrupted:
so nearly the same rate is enough."""


@dataclass(frozen=True)
class Instances:
    """A second session of a network, of which each core can run a batch by itself.

    Attributes:
        session: The session, which has given the golden answers.
        costs: What a batch of each size costs while all instances run.
        engine: The session as the batcher uses it.
    """

    session: Session
    costs: tuple[BatchCost, ...]
    engine: Engine


def faster_instances(
    artifact: Artifact, session: Session, costs: tuple[BatchCost, ...], settings: ServerSettings
) -> Instances | None:
    """Prove and measure instances beside a session that takes all cores.

    All instances together take as many rows as one batch on all cores, so that they need no more
    memory for what they compute with. Large batches of few instances are what some networks want:
    where the weights are most of the work, to read them once for many rows is worth more.

    Args:
        artifact: The artifact.
        session: What runs it on all cores.
        costs: What a batch of each size costs there.
        settings: The server's settings, with the model's own in place of them.

    Returns:
        None where instances are clearly slower than all cores together or do not give the golden
        answers, where somebody has chosen threads or executions, and where rows are to wait for
        company.
    """
    chosen = settings.intra_op_threads or settings.max_concurrent_executions
    if (
        chosen
        or settings.max_queue_delay_seconds
        or not session.provider.single_core_batches
        or session.cores is None
        or session.threads == 1
    ):
        return None
    executions = session.threads
    max_batch_size = -(-settings.max_batch_size // executions)
    try:
        instances = Session(
            artifact.read(MODEL_FILE),
            session.provider,
            intra_op_threads=1,
            max_batch_size=max_batch_size,
            max_concurrent_executions=executions,
            cores=session.cores.budget,
        )
        run_self_test(artifact, instances)
        shape = artifact.manifest.preprocessing.output_shape
        rate = relative_rate(instances, session, costs, shape)
        if rate < LEAST_RATE:
            return None
        instance_costs = warm_up(instances, shape, executions=executions)
    # All cores have given the right answers, so that nothing that is wrong here keeps the model
    # from being served. ONNX Runtime raises one class per status code.
    except Exception as error:
        logger.warning("%s: no batch runs on a core of its own: %s", artifact.path, error)
        return None
    return Instances(
        instances, instance_costs, engine_of(instances, instance_costs, max_batch_size)
    )
