"""All fuzz targets by name."""

from tests.fuzz.artifacts import CONFIGURATION, MANIFEST
from tests.fuzz.bodies import FORM, INFER_BODY
from tests.fuzz.pictures import TARGET as PICTURES
from tests.fuzz.requests import CONVD, OPEN_INFERENCE

TARGETS = {
    "pictures": PICTURES,
    "convd-requests": CONVD,
    "open-inference-requests": OPEN_INFERENCE,
    "open-inference-bodies": INFER_BODY,
    "forms": FORM,
    "manifests": MANIFEST,
    "configurations": CONFIGURATION,
}
