"""Real pictures for a network that comes without data."""

from PIL import Image
from sklearn.datasets import load_sample_images

_CUTS_PER_PHOTO = 5


class SamplePictures:
    """Cuts of the two photographs that scikit-learn carries, of ten sizes and shapes.

    They have no classes, so they can prove that two networks answer alike, but not how good either
    is.
    """

    name = "cuts of scikit-learn's two sample photographs"

    def __init__(self) -> None:
        photos = [Image.fromarray(photo) for photo in load_sample_images().images]
        self._pictures = [_cut(photo, step) for step in range(_CUTS_PER_PHOTO) for photo in photos]

    def __len__(self) -> int:
        return len(self._pictures)

    def picture(self, index: int) -> Image.Image:
        """One cut, mode `RGB`."""
        return self._pictures[index]


def _cut(photo: Image.Image, step: int) -> Image.Image:
    """A window that moves from the upper left to the lower right, and narrows."""
    width, height = photo.width - 80 * step, photo.height - 60 * step
    left = (photo.width - width) * step // _CUTS_PER_PHOTO
    top = (photo.height - height) * step // _CUTS_PER_PHOTO
    return photo.crop((left, top, left + width, top + height))
