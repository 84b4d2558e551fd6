"""JPEG files, and Pillow's opinion of them."""

import io

import numpy as np
import skimage.data
from PIL import Image, ImageOps

PHOTO = skimage.data.astronaut()


def encoded(image, **options):
    """A JPEG file."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, "JPEG", **options)
    return file.getvalue()


def by_pillow(file):
    """The independent oracle: (h, w, 1) or (h, w, 3), upright."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    pixels = np.asarray(image.convert("RGB") if image.mode == "CMYK" else image)
    return pixels.reshape(*pixels.shape[:2], -1)


def oriented(orientation):
    """EXIF for `encoded`."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def with_segment(file, code, body):
    """A file with one more segment, the first."""
    return file[:2] + bytes([0xFF, code]) + (len(body) + 2).to_bytes(2, "big") + body + file[2:]


def without_segment(file, code):
    """A file without the first segment of a kind."""
    at = file.index(bytes([0xFF, code]))
    return file[:at] + file[at + 2 + int.from_bytes(file[at + 2 : at + 4], "big") :]


GRAY = encoded(PHOTO[:100, :130, 0])
COLOR = encoded(PHOTO[:120, :150])
PROGRESSIVE = encoded(PHOTO[:120, :150], progressive=True)
CMYK = encoded(Image.fromarray(PHOTO[:50, :60]).convert("CMYK"))
WHOLE = [GRAY, COLOR, PROGRESSIVE, CMYK]
