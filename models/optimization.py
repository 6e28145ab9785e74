"""Optimisation of a network, step by step."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from convd.models.augmentation import Augmentation
from convd.models.data.prepared import Batch
from convd.models.devices import Precision
from convd.models.losses import network_loss
from convd.models.normalization import NormalizeImages
from convd.models.registry import Weights
from convd.models.schedule import learning_rate_at
from convd.models.settings import TrainingSettings

_WEIGHTS = "weights/"
_MOMENTUM = "momentum/"


class StepResult(NamedTuple):
    """The result of one step, on the network's device: only reading it waits for the device.

    Attributes:
        loss: Scalar, the mean over the batch; of the main classifier, where there are others.
        correct: Scalar, number of pictures that were classified correctly before the step.
    """

    loss: Tensor
    correct: Tensor


class Optimization:
    """Stochastic gradient descent with momentum on a network.

    Every random number of a step derives from the run's seed and the step's number, so a run can
    resume at any step as if it had never stopped.

    Args:
        network: The network, on the device to train on.
        normalize: Its normalisation.
        augmentation: Random changes of the training pictures.
        settings: The run's settings.
        learning_rate: Peak learning rate.
        steps_per_epoch: Steps of each epoch.
    """

    def __init__(
        self,
        network: nn.Module,
        normalize: NormalizeImages,
        augmentation: Augmentation,
        settings: TrainingSettings,
        *,
        learning_rate: float,
        steps_per_epoch: int,
    ) -> None:
        self.network = network
        self._device = next(network.parameters()).device
        self._normalize = normalize.to(self._device)
        self._precision = Precision(self._device, settings.mixed_precision)
        self._augmentation = augmentation
        self._settings = settings
        self._peak = learning_rate
        self._steps = settings.epochs * steps_per_epoch
        self._warmup_steps = min(round(settings.warmup_epochs * steps_per_epoch), self._steps - 1)
        self.optimizer = torch.optim.SGD(
            _parameter_groups(network, settings.weight_decay),
            lr=learning_rate,
            momentum=settings.momentum,
            # One pass over the weights instead of several. Where fully connected layers hold most
            # of them, as in AlexNet, a step takes half the time.
            fused=True,
        )

    def train_mode(self) -> None:
        """Put the network in train mode, except for frozen parts and their statistics."""
        self.network.train()
        for module in self.network.modules():
            parameters = list(module.parameters())
            if parameters and not any(each.requires_grad for each in parameters):
                module.eval()

    def tensors(self) -> Weights:
        """Everything that the next step depends on: weights, statistics, momentum."""
        state = {_WEIGHTS + name: tensor for name, tensor in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                state[_MOMENTUM + name] = momentum
        return state

    def restore(self, tensors: Weights) -> None:
        """Restore what `tensors` returned."""
        self.network.load_state_dict(
            {
                name.removeprefix(_WEIGHTS): tensor
                for name, tensor in tensors.items()
                if name.startswith(_WEIGHTS)
            }
        )
        for name, parameter in self.network.named_parameters():
            momentum = tensors.get(_MOMENTUM + name)
            if momentum is not None:
                self.optimizer.state[parameter]["momentum_buffer"] = momentum.to(self._device)

    @property
    def loss_scale(self) -> tuple[float, int] | None:
        """Scale of the loss, and steps since it last changed; None if the loss is not scaled."""
        state = self._precision.scaler.state_dict()
        return (state["scale"], state["_growth_tracker"]) if state else None

    def restore_loss_scale(self, scale: float, steps: int) -> None:
        """Restore what `loss_scale` returned."""
        scaler = self._precision.scaler
        scaler.load_state_dict({**scaler.state_dict(), "scale": scale, "_growth_tracker": steps})

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step; steps of the whole run are numbered from 0."""
        return learning_rate_at(
            step, peak=self._peak, steps=self._steps, warmup_steps=self._warmup_steps
        )

    def step(self, number: int, batch: Batch) -> StepResult:
        """Take one optimisation step.

        Args:
            number: Number of the step in the whole run, from 0.
            batch: Prepared pictures and their classes.
        """
        seed = derived_seed(self._settings.seed, "step", number)
        torch.manual_seed(seed)  # for dropout
        generator = torch.Generator().manual_seed(seed)
        images = self._augmentation.apply(batch.images.to(self._device), generator)
        targets = batch.targets.to(self._device)
        with self._precision.autocast():
            losses = network_loss(
                self.network,
                self._normalize(images),
                targets,
                loss=self._settings.loss,
                label_smoothing=self._settings.effective_label_smoothing,
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(number)
        self.optimizer.zero_grad(set_to_none=True)
        scaler = self._precision.scaler
        scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
        scaler.step(self.optimizer)
        scaler.update()
        correct = (losses.logits.detach().argmax(dim=1) == targets).sum()
        return StepResult(losses.main.detach(), correct)


def derived_seed(seed: int, purpose: str, number: int = 0) -> int:
    """A seed for one purpose of a run, independent of those for other purposes and numbers."""
    sequence = np.random.SeedSequence([seed, *purpose.encode(), number])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Apply weight decay to matrices and kernels only (He et al., "Bag of Tricks", 2018)."""
    trained = [each for each in network.parameters() if each.requires_grad]
    return [
        {"params": [each for each in trained if each.dim() > 1], "weight_decay": weight_decay},
        {"params": [each for each in trained if each.dim() <= 1], "weight_decay": 0.0},
    ]
