"""Pictures as the bytes of image files."""

import io

from PIL import Image


def encode(picture: Image.Image, image_format: str) -> bytes:
    """Encode a picture.

    Args:
        picture: Any picture; alpha and palettes are lost, since JPEG has neither.
        image_format: Pillow's name of it, such as `PNG`.
    """
    buffer = io.BytesIO()
    mode = picture.mode if picture.mode in ("L", "RGB") else "RGB"
    picture.convert(mode).save(buffer, image_format)
    return buffer.getvalue()
