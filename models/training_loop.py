"""The training loop, which saves what it needs to resume after an interruption."""

import math
import time
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from convd.models.augmentation import Augmentation
from convd.models.data.prepared import PreparedDataset
from convd.models.errors import TrainingError
from convd.models.evaluation import Predictions, predict_prepared
from convd.models.interruption import Interruption
from convd.models.losses import chance_loss, classification_loss
from convd.models.normalization import NormalizeImages
from convd.models.optimization import Optimization, derived_seed
from convd.models.preparation import PreparedRun
from convd.models.progress import TrainingProgress
from convd.models.records import METRICS_FILE, EpochLog, EpochRecord, rises_above_chance
from convd.models.resume import ResumePoint, RunProgress, save_resume_point
from convd.models.settings import TrainingSettings

SECONDS_BETWEEN_SAVES = 60.0
_SECONDS_BETWEEN_UPDATES = 0.1
_EVALUATION_BATCH_SIZE = 64
_BEST = "best/"


class TrainingLoop:
    """One run, from its first step or from where it was interrupted.

    Args:
        run: What to train, and on what.
        settings: How to train.
        output: The run's folder.
        device: What to compute on.
        console: Where to show progress.
        interruption: Asks the run to stop.
        point: The state to resume from; None starts from the beginning.
    """

    def __init__(
        self,
        run: PreparedRun,
        settings: TrainingSettings,
        output: Path,
        *,
        device: torch.device,
        console: Console,
        interruption: Interruption,
        point: ResumePoint | None,
    ) -> None:
        self.network: nn.Module = run.initial.network.to(device)
        self.progress = RunProgress(settings=settings)
        self._run = run
        self._settings = settings
        self._output = output
        self._interruption = interruption
        self._steps_per_epoch = run.steps_per_epoch
        self._normalize = NormalizeImages(run.normalization)
        self._optimization = Optimization(
            self.network,
            self._normalize,
            run.data.augmentation if settings.augment else Augmentation(),
            settings,
            learning_rate=run.learning_rate,
            steps_per_epoch=self._steps_per_epoch,
        )
        self._best: dict[str, Tensor] = {}
        if point is not None:
            self._restore(point)
        self._log = EpochLog(output / METRICS_FILE, self.progress.finished_epochs)
        self._show = TrainingProgress(settings.epochs, self._steps_per_epoch, console)
        self._chance_loss = chance_loss(
            len(run.data.labels),
            loss=settings.loss,
            label_smoothing=settings.effective_label_smoothing,
        )
        self._saved_at = self._epoch_began = time.monotonic()
        self._images_per_second = 0.0
        self._is_warned = False

    @property
    def records(self) -> list[EpochRecord]:
        """The epochs so far."""
        return self._log.records

    def run(self) -> bool:
        """Train to the end, or until interrupted, and load the best weights where they are known.

        Returns:
            Whether it came to the end; otherwise the state to resume from has been saved.

        Raises:
            TrainingError: The loss is no longer finite.
            OutputError: A file cannot be written.
        """
        finished = True
        with self._show:
            while finished and not self._is_over():
                finished = self._train_epoch()
                if finished:
                    self._finish_epoch()
        if self._best:
            self.network.load_state_dict(self._best)
        return finished

    def predict(self, dataset: PreparedDataset) -> Predictions:
        """Run the network over prepared pictures."""
        return predict_prepared(self.network, dataset, self._normalize, _EVALUATION_BATCH_SIZE)

    def _is_over(self) -> bool:
        epochs, patience = self.progress.finished_epochs, self._settings.patience
        if patience is not None and epochs - self.progress.best_epoch >= patience:
            return True
        return epochs >= self._settings.epochs

    def _train_epoch(self) -> bool:
        """Train on the remaining pictures of the epoch; False if interrupted."""
        self._epoch_began = shown = time.monotonic()
        pictures = self._run.pictures_per_epoch
        order = epoch_order(
            len(self._run.train),
            batch_size=self._run.batch_size,
            passes=self._run.passes_per_epoch,
            seed=self._settings.seed,
            epoch=self.progress.finished_epochs,
        )
        done = self.progress.steps - self.progress.finished_epochs * self._steps_per_epoch
        seen = already = sum(len(each) for each in order[:done])
        loss_sum = torch.tensor(self.progress.loss_sum, dtype=torch.float64)
        correct = torch.tensor(self.progress.correct)
        self._optimization.train_mode()
        for number, batch in enumerate(
            self._run.train.batches(order[done:]), start=self.progress.steps
        ):
            result = self._optimization.step(number, batch)
            loss_sum = loss_sum + result.loss.double() * len(batch.targets)
            correct = correct + result.correct
            seen += len(batch.targets)
            now = time.monotonic()
            stop = self._interruption.requested()
            save = stop or now - self._saved_at >= SECONDS_BETWEEN_SAVES
            # Reading a sum waits for the device, so not every step does it.
            if save or seen == pictures or now - shown >= _SECONDS_BETWEEN_UPDATES:
                shown = now
                self.progress = self.progress.model_copy(
                    update={
                        "steps": number + 1,
                        "loss_sum": loss_sum.item(),
                        "correct": int(correct.item()),
                    }
                )
                self._images_per_second = (seen - already) / max(now - self._epoch_began, 1e-9)
                self._show_step(seen)
            if save:
                self._save()
            if stop:
                return False
        return True

    def _show_step(self, seen: int) -> None:
        epoch, loss = self.progress.finished_epochs + 1, self.progress.loss_sum / seen
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in epoch {epoch}: train with a smaller --learning-rate "
                f"than {self._run.learning_rate:.4g}"
            )
        self._show.step(
            epoch=epoch,
            step=self.progress.steps,
            loss=loss,
            accuracy=self.progress.correct / seen,
            images_per_second=self._images_per_second,
        )

    def _finish_epoch(self) -> None:
        """Measure and record the epoch, and keep the weights if they are the best so far."""
        progress, run = self.progress, self._run
        epoch = progress.finished_epochs + 1
        predictions = self.predict(run.validation or run.held_out)
        accuracy = predictions.top1
        watched_loss = classification_loss(
            predictions.logits,
            predictions.targets,
            loss=self._settings.loss,
            label_smoothing=self._settings.effective_label_smoothing,
        )
        record = EpochRecord(
            epoch=epoch,
            train_loss=progress.loss_sum / run.pictures_per_epoch,
            train_accuracy=progress.correct / run.pictures_per_epoch,
            watched="held out" if run.validation is None else "validation",
            watched_accuracy=accuracy,
            watched_loss=watched_loss.item(),
            learning_rate=self._optimization.learning_rate(progress.steps - 1),
            images_per_second=self._images_per_second,
            seconds=time.monotonic() - self._epoch_began,
        )
        self._log.append(record)
        self._show.epoch(record)
        if not self._is_warned and rises_above_chance(self.records, self._chance_loss):
            self._is_warned = True
            self._show.warn(
                f"the loss has risen to {record.train_loss:.2f}, and guessing has "
                f"{self._chance_loss:.2f}: the learning rate is too high; stop with Ctrl-C and "
                f"train with --overwrite --learning-rate {self._run.learning_rate / 10:.2g}"
            )
        update = {"finished_epochs": epoch, "loss_sum": 0.0, "correct": 0}
        if run.validation is not None and accuracy > progress.best_accuracy:
            update |= {"best_accuracy": accuracy, "best_epoch": epoch}
            weights = self.network.state_dict()
            self._best = {name: tensor.clone() for name, tensor in weights.items()}
        self.progress = progress.model_copy(update=update)

    def _save(self) -> None:
        tensors = self._optimization.tensors()
        tensors |= {_BEST + name: tensor for name, tensor in self._best.items()}
        scale = self._optimization.loss_scale
        if scale is not None:
            self.progress = self.progress.model_copy(
                update={"loss_scale": scale[0], "loss_scale_steps": scale[1]}
            )
        save_resume_point(self._output, ResumePoint(self.progress, tensors))
        self._saved_at = time.monotonic()

    def _restore(self, point: ResumePoint) -> None:
        self.progress = point.progress
        self._optimization.restore(point.tensors)
        if point.progress.loss_scale is not None:
            self._optimization.restore_loss_scale(
                point.progress.loss_scale, point.progress.loss_scale_steps
            )
        self._best = {
            name.removeprefix(_BEST): tensor
            for name, tensor in point.tensors.items()
            if name.startswith(_BEST)
        }


def epoch_order(
    count: int, *, batch_size: int, passes: int, seed: int, epoch: int
) -> tuple[Tensor, ...]:
    """The pictures of each batch of an epoch, in batches of nearly equal size.

    A small remainder would otherwise be a step with as much weight as a full batch.
    """
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    orders = (torch.randperm(count, generator=generator) for _ in range(passes))
    batches = math.ceil(count / batch_size)
    return tuple(batch for order in orders for batch in order.tensor_split(batches))
