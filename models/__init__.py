"""Architectures, checkpoints, data and training."""

from convd.models import architectures as architectures
from convd.models.registry import create_model, list_models

__all__ = ["create_model", "list_models"]
