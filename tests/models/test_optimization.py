import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from convd.models.augmentation import Augmentation
from convd.models.losses import classification_loss
from convd.models.optimization import derived_seed
from convd.models.schedule import learning_rate_at, suitable_batch_size, suitable_passes
from convd.models.training_loop import epoch_order


@given(steps=st.integers(1, 500), warmup=st.floats(0, 1, exclude_max=True), peak=st.floats(1e-4, 1))
def test_the_learning_rate_rises_to_its_peak_and_falls(
    steps: int, warmup: float, peak: float
) -> None:
    warmup_steps = int(steps * warmup)
    rates = [
        learning_rate_at(step, peak=peak, steps=steps, warmup_steps=warmup_steps)
        for step in range(steps)
    ]
    assert all(0 < rate <= peak * (1 + 1e-9) for rate in rates)
    assert max(rates) == pytest.approx(peak)
    assert rates[: warmup_steps + 1] == sorted(rates[: warmup_steps + 1])
    assert rates[warmup_steps:] == sorted(rates[warmup_steps:], reverse=True)


@given(
    count=st.integers(1, 300),
    batch_size=st.integers(2, 64),
    passes=st.integers(1, 4),
    epoch=st.integers(0, 5),
)
def test_every_pass_sees_every_picture_once(
    count: int, batch_size: int, passes: int, epoch: int
) -> None:
    order = epoch_order(count, batch_size=batch_size, passes=passes, seed=0, epoch=epoch)
    for number in range(passes):
        seen = torch.cat(order)[number * count : (number + 1) * count]
        assert sorted(seen.tolist()) == list(range(count))
    sizes = [len(each) for each in order]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_epochs_have_orders_of_their_own() -> None:
    first, again, second = (
        torch.cat(epoch_order(100, batch_size=64, passes=2, seed=0, epoch=epoch))
        for epoch in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@given(pictures=st.integers(1, 100_000))
def test_small_folders_have_steps_enough(pictures: int) -> None:
    batch_size = suitable_batch_size(pictures)
    steps = math.ceil(pictures / batch_size)
    passes = suitable_passes(pictures, batch_size)
    assert 16 <= batch_size <= 64
    assert steps >= 16 or batch_size == 16
    assert steps * passes >= 22
    assert passes == 1 or steps * passes <= 43


def test_seeds_of_different_purposes_differ() -> None:
    seeds = {
        derived_seed(seed, purpose, number)
        for seed in range(3)
        for purpose in ("step", "order", "weights")
        for number in range(3)
    }
    assert len(seeds) == 27


def test_squared_error_is_half_the_squared_distance_of_the_probabilities() -> None:
    # Probabilities 0.8 and 0.2, target 1 and 0: (0.04 + 0.04) / 2.
    logits = torch.tensor([[math.log(4.0), 0.0]])
    loss = classification_loss(logits, torch.tensor([0]), loss="squared-error", label_smoothing=0.0)
    assert loss.item() == pytest.approx(0.04)


def test_cross_entropy_is_torchs() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    loss = classification_loss(logits, targets, loss="cross-entropy", label_smoothing=0.2)
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets, label_smoothing=0.2))


def test_augmentation_that_changes_nothing_gives_the_pictures_back() -> None:
    images = torch.randint(256, (3, 9, 9, 3), dtype=torch.uint8)
    assert torch.equal(Augmentation().apply(images, torch.Generator()), images)


def test_augmentation_shifts_whole_pixels_exactly() -> None:
    images = torch.zeros(200, 10, 10, 1, dtype=torch.uint8)
    images[:, 5, 5] = 200
    moved = Augmentation(shift=0.2).apply(images, torch.Generator().manual_seed(0))
    rows, columns = torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij")
    mass = moved[..., 0].float()
    total = mass.sum(dim=(1, 2))
    shift = (mass * rows).sum(dim=(1, 2)) / total - 5
    assert shift.abs().max() <= 2 + 0.02
    assert shift.min() < -1.5
    assert shift.max() > 1.5
    torch.testing.assert_close(total, torch.full((200,), 200.0), atol=3, rtol=0)
    assert (mass * columns).sum() > 0


def test_augmentation_flips_half_of_the_pictures() -> None:
    images = torch.zeros(400, 4, 4, 3, dtype=torch.uint8)
    images[:, :, 0] = 255
    flipped = Augmentation(flip=True).apply(images, torch.Generator().manual_seed(0))
    mirrored = (flipped[:, 0, 3, 0] == 255).sum().item()
    assert 150 < mirrored < 250
    assert torch.equal(flipped.sum(dim=(1, 2, 3)), images.sum(dim=(1, 2, 3)))


def test_augmentation_depends_on_its_generator_alone() -> None:
    images = torch.randint(256, (4, 12, 12, 1), dtype=torch.uint8)
    change = Augmentation(rotation_degrees=20, shift=0.1, scale=0.2, flip=True)
    first, again, other = (
        change.apply(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.uint8
    assert first.shape == images.shape
