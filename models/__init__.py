"""Architectures, checkpoints, data and training."""

# Importing an architecture's module registers it.
from convd.models import alexnet as alexnet
from convd.models import densenet as densenet
from convd.models import googlenet as googlenet
from convd.models import lenet as lenet
from convd.models import resnet as resnet
from convd.models import vgg as vgg
from convd.models import zfnet as zfnet
from convd.models.registry import create_model, list_models

__all__ = ["create_model", "list_models"]
