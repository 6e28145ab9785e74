"""Architectures, checkpoints, data and training."""

# Importing an architecture's module registers it.
from models import lenet as lenet
from models.registry import create_model, list_models

__all__ = ["create_model", "list_models"]
