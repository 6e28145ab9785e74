"""Upper bounds of the buckets of histograms."""

# Fine enough for a p99 of 1 ms as well as for one of 1 s.
SECONDS = tuple(
    round(factor * 10.0**exponent, 7)
    for exponent in range(-5, 1)
    for factor in (1, 1.5, 2, 3, 5, 7, 10)
    if (exponent == 0 or factor < 10) and (exponent > -5 or factor in (1, 2, 5))
)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# Confidences cluster near 1, entropies near 0.
CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
ENTROPY_RATIO = (*(round(1 - bound, 3) for bound in reversed(CONFIDENCE[:-1])), 1.0)
