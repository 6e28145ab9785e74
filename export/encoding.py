"""Pictures as the bytes of image files."""

import io

from PIL import Image

from convd.artifact.colors import to_mode

_KEPT_MODES = {
    "PNG": {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"},
    "JPEG": {"L", "RGB", "CMYK"},
    "BMP": {"L", "RGB"},
}


def encode(picture: Image.Image, image_format: str) -> bytes:
    """Encode a picture.

    Args:
        picture: Any picture; what the format cannot hold becomes RGB, without alpha or profile.
        image_format: `PNG`, `JPEG` or `BMP`, which keeps no profile.
    """
    buffer = io.BytesIO()
    profile = picture.info.get("icc_profile")
    if picture.mode not in _KEPT_MODES[image_format]:
        picture, profile = to_mode(picture, "RGB"), None
    picture.save(buffer, image_format, icc_profile=profile)
    return buffer.getvalue()
