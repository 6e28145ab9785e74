"""How many pictures a step takes, and how far it goes."""

import math

REGISTERED_BATCH_SIZE = 64
"""The batch size for which architectures register their learning rate."""

LEAST_BATCH_SIZE = 16
LEAST_STEPS_PER_EPOCH = 16
USUAL_STEPS_PER_EPOCH = 32


def suitable_batch_size(pictures: int) -> int:
    """The largest power of two, from 16 to 64, that leaves 16 steps a pass.

    A small folder would otherwise have so few steps that neither weights nor batch statistics
    settle. Small batches train no worse than large ones (Masters and Luschi, "Revisiting Small
    Batch Training for Deep Neural Networks", 2018).
    """
    size = REGISTERED_BATCH_SIZE
    while size > LEAST_BATCH_SIZE and pictures < size * LEAST_STEPS_PER_EPOCH:
        size //= 2
    return size


def suitable_passes(pictures: int, batch_size: int) -> int:
    """Passes over the pictures that make about 32 steps, at least one.

    Each pass changes the pictures differently, so several are more than repetition (Hoffer et al.,
    "Augment Your Batch", 2020). With few pictures, one pass would be too little to show an effect
    and to let the learning rate rise slowly.
    """
    return max(1, round(USUAL_STEPS_PER_EPOCH / math.ceil(pictures / batch_size)))


def peak_learning_rate(registered: float, batch_size: int) -> float:
    """The architecture's learning rate for a batch size.

    It grows in proportion to the batch size (Goyal et al., "Accurate, Large Minibatch SGD", 2017).
    Weights that are trained already get the same: with less, a small folder is not learned in the
    epochs that suffice from random weights (decision 22).

    Args:
        registered: The rate that the architecture registers.
        batch_size: Pictures per step.
    """
    return registered * batch_size / REGISTERED_BATCH_SIZE


def learning_rate_at(step: int, *, peak: float, steps: int, warmup_steps: int) -> float:
    """Linear warm-up to the peak, then half a cosine down to zero.

    Warm-up follows Goyal et al., "Accurate, Large Minibatch SGD" (2017), the cosine Loshchilov and
    Hutter, "SGDR" (2016), without restarts.

    Args:
        step: Number of the step, from 0.
        peak: Largest learning rate.
        steps: Steps of the whole run.
        warmup_steps: How many of them make up the warm-up.

    Returns:
        The learning rate of this step, above 0 and at most `peak`.
    """
    if step < warmup_steps:
        return peak * ((step + 1) / warmup_steps)
    progress = (step - warmup_steps) / max(steps - warmup_steps, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
