"""Instances: one batch per core, where that answers more requests than one batch on all cores."""

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
"""Minimum rate of the instances, relative to one batch on all cores. Under load, calls interrupt
the cores that compute; a batch on all cores then waits for its slowest thread, while instances do
not wait for each other. So nearly the same rate in isolation is enough."""


@dataclass(frozen=True)
class Instances:
    """A second session of a network, which runs one batch per core.

    Attributes:
        session: The session, which has reproduced the golden answers.
        costs: The measured cost of a batch of each size while all instances run.
        engine: The session as the batcher uses it.
    """

    session: Session
    costs: tuple[BatchCost, ...]
    engine: Engine


def faster_instances(
    artifact: Artifact, session: Session, costs: tuple[BatchCost, ...], settings: ServerSettings
) -> Instances | None:
    """Self-test instances, and measure them against a session that uses all cores.

    All instances together take as many rows as one batch on all cores, so their activations need no
    more memory. Networks whose cost is dominated by reading weights prefer one large batch, which
    reads the weights once for many rows.

    Args:
        artifact: The artifact.
        session: Runs it on all cores.
        costs: The cost of a batch of each size there.
        settings: The server's settings, overridden by the model's own.

    Returns:
        The instances. None if they are clearly slower than one batch on all cores or do not
        reproduce the golden answers, or if the settings fix the number of threads or executions or
        let batches wait for more requests.
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
            precision=artifact.manifest.precision,
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
    # The session on all cores has passed its self-test, so a failure here must not keep the model
    # from being served. ONNX Runtime raises a class per status code.
    except Exception as error:
        logger.warning("%s: batches will not run on single cores: %s", artifact.folder.path, error)
        return None
    return Instances(
        instances, instance_costs, engine_of(instances, instance_costs, max_batch_size)
    )
