"""A sheet of pictures and text on a dark background, drawn with Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GROUND = (20, 22, 26)
TEXT = (222, 226, 233)
MUTED = (138, 146, 158)
GRID = (255, 255, 255, 90)
MARGIN = 24


def over(rgba: NDArray[np.uint8], ground: tuple[int, int, int] = GROUND) -> NDArray[np.uint8]:
    """Return an (h, w, 4) picture over a color: (h, w, 3). Blends the sRGB codes, which is good enough to look at."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.rint(rgba[..., :3] * alpha + np.array(ground, np.float32) * (1 - alpha)).astype(np.uint8)


class Sheet:
    """A canvas that grows downwards; `y` is the top of the next row."""

    def __init__(self, *, width: int) -> None:
        """Begin with an empty sheet of `width` pixels."""
        self.width = width
        self.y = MARGIN
        self._image = Image.new("RGB", (width, 4096), GROUND)
        self._draw = ImageDraw.Draw(self._image, "RGBA")

    def text(self, x: int, y: int, words: str, *, size: int = 13, color: tuple[int, int, int] = TEXT) -> int:
        """Write one line with its top left corner at (x, y); return the x at which it ends."""
        font = ImageFont.load_default(size)
        self._draw.text((x, y), words, fill=color, font=font)
        return x + int(font.getlength(words))

    def heading(self, words: str, detail: str) -> None:
        """Write a row with a heading and, after it, a detail."""
        end = self.text(MARGIN, self.y, words, size=17)
        self.text(end + 12, self.y + 4, detail, color=MUTED)
        self.y += 30

    def picture(
        self, x: int, y: int, rgba: NDArray[np.uint8], *, size: tuple[int, int] | None = None, tile: int | None = None
    ) -> tuple[int, int]:
        """Place an (h, w, 4) sRGB picture, scaled to `size` (width, height) where given.

        `tile`: the edge of tiles whose borders are drawn. Returns the (width, height) of the picture.
        """
        image: Any = Image.fromarray(over(rgba))
        if size is not None and size != image.size:
            image = image.resize(size, Image.Resampling.LANCZOS)
        self._image.paste(image, (x, y))
        width, height = image.size
        if tile:
            for at in range(tile, width, tile):
                self._draw.line([(x + at, y), (x + at, y + height - 1)], fill=GRID)
            for at in range(tile, height, tile):
                self._draw.line([(x, y + at), (x + width - 1, y + at)], fill=GRID)
            self._draw.rectangle([x, y, x + width - 1, y + height - 1], outline=GRID)
        return width, height

    def swatch(self, x: int, y: int, color: tuple[int, ...], words: str) -> int:
        """Draw an entry of a legend, a square of `color` and its meaning; return the x at which it ends."""
        self._draw.rectangle([x, y + 3, x + 11, y + 14], fill=color)
        return self.text(x + 18, y, words, color=MUTED) + 16

    def bar(self, x: int, y: int, colors: NDArray[np.uint8], low: str, high: str, *, width: int) -> None:
        """Draw the legend of a colormap: (n, 3) colors as a bar between two texts."""
        begin = self.text(x, y, low, color=MUTED) + 8
        end = x + width - int(ImageFont.load_default(13).getlength(high)) - 8
        image = Image.fromarray(colors[None]).resize((end - begin, 12), Image.Resampling.BILINEAR)
        self._image.paste(image, (begin, y + 3))
        self.text(end + 8, y, high, color=MUTED)

    def pixels(self) -> NDArray[np.uint8]:
        """Return the sheet down to the current row: (h, width, 3) uint8 sRGB."""
        return np.asarray(self._image.crop((0, 0, self.width, self.y + MARGIN)))
