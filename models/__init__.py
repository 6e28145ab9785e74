"""Architectures, checkpoints, data and training."""

# Importing an architecture's module registers it.
from models import alexnet as alexnet
from models import densenet as densenet
from models import googlenet as googlenet
from models import lenet as lenet
from models import resnet as resnet
from models import vgg as vgg
from models import zfnet as zfnet
from models.registry import create_model, list_models

__all__ = ["create_model", "list_models"]
