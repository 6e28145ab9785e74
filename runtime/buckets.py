"""Batch buckets: the few batch sizes that a session is warmed up for."""


def batch_buckets(max_batch_size: int) -> tuple[int, ...]:
    """The powers of two below the largest batch, then the largest batch itself."""
    powers = [1 << exponent for exponent in range((max_batch_size - 1).bit_length())]
    return (*powers, max_batch_size)


def bucket_of(rows: int, buckets: tuple[int, ...]) -> int:
    """The smallest bucket that holds `rows`, which must not exceed the largest bucket."""
    return next(bucket for bucket in buckets if bucket >= rows)
