"""Runs the comparisons: a thread asks the candidates while the process has nothing else to do."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from convd.artifact.errors import InvalidImageError
from convd.artifact.graph_contract import Outputs
from convd.service.batching.entry import Priority
from convd.service.calls.call import Call
from convd.service.errors import (
    CallerGoneError,
    NotFoundError,
    QueueFullError,
    ServiceError,
    UnavailableError,
)
from convd.service.inference.preparation import PixelImage, decode_and_prepare
from convd.service.inference.service import InferenceService
from convd.service.lifecycle.catalog import VersionChoice
from convd.service.lifecycle.shadow_settings import KeptPictures, ShadowSettings
from convd.service.servables.servable import Servable
from convd.service.shadow.comparison import Comparison
from convd.service.shadow.kept_pictures import kept_picture
from convd.service.shadow.mirror import Route, Sample, SampleMirror
from convd.service.shadow.report import ComparisonReport, Outcome

LONGEST_SECONDS = 30.0
"""How long the candidate may take for one picture."""

_LOOK_SECONDS = 0.5

# Some providers run a network as one operator, which nothing interrupts.
_CLOSE_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Shadowing:
    """Compares samples of the answers of live versions with those of their candidates.

    Its thread is started by the first comparison, and ends with `close`.

    Args:
        inference: Answers requests, and has its answers sampled.
        settings: Returns what each model's configuration wants to be compared.
    """

    def __init__(
        self, inference: InferenceService, settings: Callable[[], Mapping[str, ShadowSettings]]
    ) -> None:
        self._inference = inference
        self._catalog = inference.catalog
        self._settings = settings
        self._mirror = SampleMirror()
        self._refreshing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing: Comparison | None = None

    def refresh(self) -> None:
        """Follow the configurations, labels and versions as they are now."""
        # Clients that load a model have this done in their own thread.
        with self._refreshing:
            wanted = self._settings()
            routes = {name: self._route(name, wanted[name]) for name in sorted(wanted)}
            self._mirror.routes = {name: route for name, route in routes.items() if route}
            active = bool(self._mirror.routes) and not self._stop.is_set()
            self._inference.mirror = self._mirror if active else None
            if active and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
                self._thread.start()

    def reports(self) -> list[ComparisonReport]:
        """What was found so far of every model that is compared."""
        waiting = self._mirror.waiting
        return [
            route.comparison.report(
                route.settings.share, waiting.get(route.comparison, 0), route.problem
            )
            for route in self._mirror.routes.values()
        ]

    def close(self) -> None:
        """Stop; what waits is not compared any more."""
        with self._refreshing:
            self._stop.set()
            self._inference.mirror = None
        running = self._mirror.running
        if running is not None:
            running.cancel()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _route(self, name: str, settings: ShadowSettings) -> Route | None:
        """What is compared of a model; None before both versions were available once."""
        known = self._mirror.routes.get(name)
        labels = self._catalog.labels(name)
        loaded_versions = {one.version: one.servable for one in self._catalog.statuses(name)}
        servables = [
            loaded_versions.get(labels.get(label, 0))
            for label in (settings.live, settings.candidate)
        ]
        loaded = [one for one in servables if one is not None]
        if len(loaded) < 2:
            missing = settings.candidate if settings.live in labels else settings.live
            problem = f"no version with the label {missing} is available"
            return known and Route(settings, known.comparison, problem)
        live, candidate = loaded
        if live.version == candidate.version:
            problem = f"the labels {settings.live} and {settings.candidate} are of one version"
            return known and Route(settings, known.comparison, problem)
        # Other files under the same number are another version.
        versions = (live.version, live.manifest), (candidate.version, candidate.manifest)
        if known is None or known.comparison.versions != versions:
            comparison = Comparison(name, *versions)
            logger.info(
                "comparing %g of the answers of version %d of %s with version %d",
                settings.share, live.version, name, candidate.version,
            )  # fmt: skip
        else:
            comparison = known.comparison
            # A comparison that ran while the setting changed may have kept one more.
            kind = settings.pictures
            if kind is KeptPictures.NONE or kind is not known.settings.pictures:
                comparison.forget_pictures()
        same_task = comparison.classes.same_task
        return Route(settings, comparison, "" if same_task else "they have different tasks")

    def _run(self) -> None:
        while not self._stop.is_set():
            sample = self._mirror.next_sample(_LOOK_SECONDS)
            if sample is None:
                continue
            try:
                self._compare(sample)
            # One picture must not end all comparisons.
            except Exception:
                logger.exception("a picture could not be compared")
                sample.comparison.count(Outcome.FAILED)

    def _compare(self, sample: Sample) -> None:
        """Compare one picture, as often as requests interrupt it."""
        comparison = sample.comparison
        while not self._stop.is_set():
            route = self._mirror.routes.get(comparison.model)
            if route is None or route.comparison is not comparison:
                return
            seconds = self._mirror.seconds_until_idle()
            if seconds:
                self._stop.wait(seconds)
                continue
            call = Call(
                method="shadow", protocol="shadow", deadline=time.monotonic() + LONGEST_SECONDS
            )
            try:
                if self._mirror.begin(call):
                    self._ask(sample, call, route.settings.pictures)
                    return
            except CallerGoneError:
                continue
            finally:
                self._mirror.end()

    def _ask(self, sample: Sample, call: Call, pictures: KeptPictures) -> None:
        """Ask the candidate, and count what comes of it.

        Raises:
            CallerGoneError: A request has arrived.
        """
        comparison, outcome = sample.comparison, Outcome.FAILED
        try:
            with self._catalog.acquire(
                VersionChoice(comparison.model, comparison.candidate)
            ) as servable:
                image = self._prepared(sample, servable, call)
                if image is None:
                    outcome = Outcome.UNFIT
                else:
                    result = servable.batcher.submit(
                        image[np.newaxis],
                        deadline=call.deadline,
                        cancellation=call,
                        priority=Priority.LOW,
                    )
                    outcome = Outcome.COMPARED
        except CallerGoneError:
            raise
        except InvalidImageError:
            outcome = Outcome.UNFIT
        except (UnavailableError, NotFoundError, QueueFullError):
            outcome = Outcome.UNAVAILABLE
        except ServiceError as error:
            if self._failing is not comparison:
                logger.warning(
                    "version %d of %s failed on a picture that version %d could answer: %s",
                    comparison.candidate, comparison.model, comparison.live, error,
                )  # fmt: skip
            self._failing = comparison
        if outcome is not Outcome.COMPARED:
            comparison.count(outcome)
            return
        (probabilities,) = Outputs(*result.outputs).probabilities
        source = sample.source
        content = source.data if isinstance(source, PixelImage) else source
        comparison.add(
            sample.probabilities,
            probabilities,
            sample.image.tobytes() if content is None else content,
            partial(
                kept_picture,
                pictures,
                source if isinstance(source, bytes) else None,
                sample.image,
                comparison.channel_order,
            ),
            request_id=sample.request_id,
            unix_seconds=sample.unix_seconds,
        )

    def _prepared(self, sample: Sample, servable: Servable, call: Call) -> NDArray[np.uint8] | None:
        """The picture as the candidate takes it; None if the caller prepared it for another."""
        if sample.comparison.same_preprocessing:
            return sample.image
        if sample.source is None:
            return None
        inference = self._inference
        return decode_and_prepare(
            servable, sample.source, call, inference.max_image_pixels, inference.decode_budget
        )
