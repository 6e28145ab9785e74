"""Sessions: a network loaded into ONNX Runtime on one execution provider."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from convd.artifact.graph_contract import (
    IMAGE,
    NO_EXTRAS,
    OPTIONAL,
    REQUIRED,
    Extras,
    GraphTensor,
    OutputArrays,
    Outputs,
    RowShape,
    outputs_of,
)
from convd.artifact.precision import Precision
from convd.runtime.buckets import batch_buckets
from convd.runtime.cores import CoreBudget, CoreShare, available_cores
from convd.runtime.errors import SessionError
from convd.runtime.home_core import HOME
from convd.runtime.interruption import InterruptedRunError, Interruption
from convd.runtime.lanes import Lanes
from convd.runtime.outside_data import refuse_outside_data
from convd.runtime.provider import ExecutionProvider
from convd.runtime.thread_count import is_small, threads_pay
from convd.runtime.threads import thread_name
from convd.runtime.trial import Trial

_LOG_ERRORS_ONLY = 3
_REQUIRED_NAMES = [output.name for output in REQUIRED]

ENGINE_THREAD = "convd-engine"
"""Name of the compute threads, as `top -H` shows it."""


class Session:
    """An artifact's network, ready to run.

    Args:
        model: Bytes of the ONNX file.
        provider: Where to run it.
        precision: Precision of the network.
        intra_op_threads: Threads for one inference; 0 takes every core, or one if the network is
            too small to gain from more.
        max_batch_size: Maximum rows of a batch, for a provider whose batches are padded.
        max_concurrent_executions: Batches that may run at the same time; 0 for the provider's own.
        gpu_memory_limit_bytes: Maximum memory of the session on a GPU; 0 for no limit.
        cores: The budget that it shares cores through; None if it shares none.
        trial_seconds: How long all runs before `end_trial` may take; None for no bound.

    Attributes:
        provider: Where it runs.
        threads: Cores that one inference keeps busy; 0 if it runs on a device.
        cores: What one inference takes from the shared cores, before `run`; None where it takes
            none.
        max_concurrent_executions: Batches that may run at the same time.
        buckets: The batch sizes to warm up.
        outputs: The outputs of the network, with the shape of one row of each.

    Raises:
        SessionError: The provider is missing, or cannot run this network.
    """

    def __init__(
        self,
        model: bytes,
        provider: ExecutionProvider,
        *,
        precision: Precision = "float32",
        intra_op_threads: int = 0,
        max_batch_size: int = 32,
        max_concurrent_executions: int = 0,
        gpu_memory_limit_bytes: int = 0,
        cores: CoreBudget | None = None,
        trial_seconds: float | None = None,
    ) -> None:
        self.provider = provider
        self._trial = Trial(trial_seconds) if trial_seconds is not None else None
        self.buckets = batch_buckets(max_batch_size)
        self.cores: CoreShare | None = None
        self._lanes: Lanes | None = None
        device = provider.device
        if device is not None:
            self.max_concurrent_executions = max_concurrent_executions or device.lanes
            self.threads = 0
            self._session = open_session(
                model,
                provider,
                precision=precision,
                intra_op_threads=1,
                gpu_memory_limit_bytes=gpu_memory_limit_bytes,
            )
            self.outputs = _outputs(self._session)
            self._lanes = Lanes(
                self._session,
                {output: self.outputs[output] for output in REQUIRED},
                max_batch_size=max_batch_size,
                lanes=self.max_concurrent_executions,
                host_memory=device.host_memory,
            )
            return
        self.max_concurrent_executions = max_concurrent_executions or 1
        all_cores = cores.cores if cores else available_cores()
        self.threads = intra_op_threads or max(1, all_cores // self.max_concurrent_executions)
        self._session = open_session(
            model, provider, precision=precision, intra_op_threads=self.threads
        )
        self.cores = CoreShare(cores, self.threads) if cores else None
        self.outputs = _outputs(self._session)
        if not intra_op_threads and self.threads > 1:
            one_thread = self._better_on_one_thread(model, precision, max_batch_size)
            if one_thread is not None:
                self.threads = 1
                self._session = one_thread
                self.cores = CoreShare(cores, 1) if cores else None

    def run(
        self,
        images: NDArray[np.uint8],
        extras: Extras = NO_EXTRAS,
        interruption: Interruption | None = None,
    ) -> OutputArrays:
        """Run the network. A caller that shares cores must already hold them, or be inside `turn`.

        Args:
            images: uint8 `[batch, height, width, channels]`.
            extras: The optional outputs to compute as well.
            interruption: Ends the run early.

        Returns:
            Float32 `[batch, ...]` each; None for an optional output that was not asked for.

        Raises:
            InterruptedRunError: It was interrupted.
        """
        if extras or interruption is not None:
            return self._run_specially(images, extras, interruption)
        if self._lanes is not None:
            return self._lanes.run(images)
        if self._trial is not None:
            return self._run_required(self._session, images)
        return Outputs(*self._session.run(_REQUIRED_NAMES, {IMAGE.name: images}))

    def end_trial(self) -> None:
        """Let runs take as long as they like from now on."""
        if self._trial is not None:
            self._trial.close()
            self._trial = None

    def _run_specially(
        self, images: NDArray[np.uint8], extras: Extras, interruption: Interruption | None
    ) -> OutputArrays:
        names = [*_REQUIRED_NAMES, *(one.name for one in OPTIONAL if one.name in extras)]
        options = None if interruption is None else interruption.run_options
        try:
            arrays = self._session.run(names, {IMAGE.name: images}, options)
        except Exception as error:
            if interruption is None or not interruption.is_set:
                raise
            raise InterruptedRunError("the run was interrupted") from error
        return Outputs(**dict(zip(names, arrays, strict=True)))

    def _run_required(
        self, session: ort.InferenceSession, images: NDArray[np.uint8]
    ) -> OutputArrays:
        inputs = {IMAGE.name: images}
        trial = self._trial
        if trial is None:
            return Outputs(*session.run(_REQUIRED_NAMES, inputs))
        try:
            return Outputs(*session.run(_REQUIRED_NAMES, inputs, trial.run_options))
        except Exception as error:
            if not trial.is_over:
                raise
            raise SessionError(
                f"{self.provider} did not finish the network's first runs within "
                f"{trial.seconds:g} s"
            ) from error

    def turn(self, executions: int = 1) -> AbstractContextManager[None]:
        """Wait for the cores of one or several inferences, and hold them inside the context."""
        if self.cores is None:
            return nullcontext()
        return self.cores.budget.take(executions * self.cores.threads)

    def _better_on_one_thread(
        self, model: bytes, precision: Precision, max_batch_size: int
    ) -> ort.InferenceSession | None:
        """The network on one thread, where that is better than on all."""
        shape = self._session.get_inputs()[0].shape[1:]
        run = partial(self._run_required, self._session)
        try:
            if not is_small(run, self.turn, shape):
                return None
            one_thread = open_session(model, self.provider, precision=precision, intra_op_threads=1)
            on_one = partial(self._run_required, one_thread)
            pays = threads_pay(run, on_one, self.turn, shape, max_batch_size)
        # If the network does not run, the self-test reports why.
        except Exception:
            return None
        return None if pays else one_thread


def open_session(
    model: bytes,
    provider: ExecutionProvider,
    *,
    precision: Precision = "float32",
    intra_op_threads: int = 0,
    gpu_memory_limit_bytes: int = 0,
) -> ort.InferenceSession:
    """Load an ONNX file with any inputs and outputs, the way serving does.

    Args:
        model: Bytes of the ONNX file.
        provider: Where to run it.
        precision: Precision of the network.
        intra_op_threads: Threads for one inference; 0 for every core that this process may use.
        gpu_memory_limit_bytes: Maximum memory of the session on a GPU; 0 for no limit.

    Raises:
        OutsideDataError: The network would read data from other files.
        SessionError: The provider is missing, or cannot run this network.
    """
    reason = provider.why_missing()
    if reason is not None:
        raise SessionError(f"{provider} cannot be used: {reason}")
    refuse_outside_data(model)
    options = ort.SessionOptions()
    # ONNX Runtime counts the machine's cores; a container's share may be smaller.
    options.intra_op_num_threads = intra_op_threads or available_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # A thread that spins between two operators takes a core away from decoding and answering.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # ONNX Runtime's own format could name files too, and nothing here reads it.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        providers = provider.configure(options, precision, gpu_memory_limit_bytes)
        with thread_name(ENGINE_THREAD), HOME.roaming():
            session = ort.InferenceSession(model, options, providers=providers)
    # ONNX Runtime raises one class per status code, and plugins raise their own.
    except Exception as error:
        raise SessionError(
            f"{provider} cannot load the network", detail=_first_line(error)
        ) from error
    # ONNX Runtime replaces a provider that fails to start by the CPU, with only a warning.
    if provider.name not in session.get_providers():
        raise SessionError(
            f"{provider} did not start, so ONNX Runtime would run on "
            f"{session.get_providers()[0]}: its device or driver is missing"
        )
    return session


def _outputs(session: ort.InferenceSession) -> dict[GraphTensor, RowShape]:
    shapes = {value.name: tuple(value.shape[1:]) for value in session.get_outputs()}
    try:
        return outputs_of(shapes)
    except ValueError as error:
        raise SessionError(
            "the network's outputs are not those of an artifact: export the model again",
            detail=str(error),
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
