"""Architectures, checkpoints, data and training."""
