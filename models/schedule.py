"""The learning rate over a training run."""

import math


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
