"""All fuzz targets by name."""

from tests.fuzz.artifacts import CONFIGURATION, MANIFEST
from tests.fuzz.pictures import TARGET as PICTURES
from tests.fuzz.requests import CONVD, OPEN_INFERENCE

TARGETS = {
    "pictures": PICTURES,
    "convd-requests": CONVD,
    "open-inference-requests": OPEN_INFERENCE,
    "manifests": MANIFEST,
    "configurations": CONFIGURATION,
}
