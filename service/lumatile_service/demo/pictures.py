"""Pictures of the frames that are in the store after the demo; nothing is drawn from the logged arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import lumatile as lt
from lumatile.read.frame import Frame
from lumatile.read.recording_reader import RecordingReader
from lumatile_kernels.decode.png import encode_png
from lumatile_kernels.tables import turbo
from lumatile_service.demo.real_data import COIN_SIZES
from lumatile_service.demo.sheet import MARGIN, MUTED, Sheet
from lumatile_service.show.picture import frame_picture
from lumatile_service.show.point_view import PointView

GAP = 16
PANEL = (371, 250)
"""Width and height of a panel of the second row: the size of level 1 of the stereo pictures."""
VIEW = PointView(yaw=20.0, pitch=10.0)
SINGLES = ("stereo/left", "stereo/depth", "stereo/points", "coins/instances", "coins/sizes", "photos/moon")


def write_pictures(store: str, recording_id: str, directory: Path) -> list[Path]:
    """Write a sheet of everything, demo.png, and PNG files of the newest frames of some entities; return the paths."""
    recording = lt.open_store(store).recording(recording_id)
    directory.mkdir(parents=True, exist_ok=True)
    pictures = {"demo": draw_sheet(recording)}
    for entity in SINGLES:
        pictures[entity.replace("/", "-")] = frame_picture(_newest(recording, entity), view=VIEW)
    pictures["photos-retina-level-1"] = frame_picture(_newest(recording, "photos/retina"), level=1)
    written = []
    for name, pixels in pictures.items():
        path = directory / f"{name}.png"
        path.write_bytes(encode_png(pixels))
        written.append(path)
    return written


def draw_sheet(recording: RecordingReader) -> NDArray[np.uint8]:
    """Return the contact sheet of a demo recording: (h, w, 3) uint8 sRGB."""
    sheet = Sheet(width=741 + 371 + GAP + 2 * MARGIN)
    _draw_pyramid(sheet, recording)
    _draw_panels(sheet, recording)
    _draw_photos(sheet, recording)
    return sheet.pixels()


def _newest(recording: RecordingReader, path: str) -> Frame:
    frame = recording.latest_at(path)
    if frame is None:
        raise lt.LumatileError(f"{path} is not in recording {recording.recording_id}")
    return frame


def _draw_pyramid(sheet: Sheet, recording: RecordingReader) -> None:
    """Draw all levels of an image at their own size, with the borders of their tiles."""
    frame = _newest(recording, "stereo/left")
    sheet.heading("stereo/left", f"image, {len(frame.levels)} levels of {frame.format}, tiles of 256 x 256")
    right = MARGIN + 741 + GAP
    sheet.picture(MARGIN, sheet.y, frame_picture(frame), tile=256)
    sheet.picture(right, sheet.y, frame_picture(frame, level=1), tile=256)
    width, _ = sheet.picture(right, sheet.y + 250 + GAP, frame_picture(frame, level=2), tile=256)
    for number, (h, w) in enumerate(frame.levels):
        sheet.text(right + width + GAP, sheet.y + 250 + GAP + 20 * number, f"level {number}: {w} x {h}")
    sheet.text(right, sheet.y + 480, "each level halves the one before, filtered in linear light", color=MUTED)
    sheet.y += 500 + GAP


def _draw_panels(sheet: Sheet, recording: RecordingReader) -> None:
    """Draw depth, points and a segmentation next to each other, with their legends."""
    width, height = PANEL
    columns = [MARGIN + i * (width + 7) for i in range(3)]
    depth, points, sizes = (_newest(recording, path) for path in ("stereo/depth", "stereo/points", "coins/sizes"))
    for x, frame, words in (
        (columns[0], depth, "depth, level 1, r32float"),
        (columns[1], points, f"{len(points.points()):,} points"),
        (columns[2], sizes, f"segmentation, {sizes.format} ids"),
    ):
        end = sheet.text(x, sheet.y, frame.entity_path, size=17)
        sheet.text(end + 12, sheet.y + 4, words, color=MUTED)
    y = sheet.y + 30
    sheet.picture(columns[0], y, frame_picture(depth, level=1))
    twice = frame_picture(points, view=replace(VIEW, width=2 * width, height=2 * height))
    sheet.picture(columns[1], y, twice, size=PANEL)
    coins = frame_picture(_newest(recording, "coins/photo"))
    shaded = frame_picture(sizes)
    inside = shaded[..., 3] > 0
    coins[inside] = coins[inside] * 0.4 + shaded[inside] * 0.6
    sheet.picture(columns[2], y, coins, size=(round(coins.shape[1] * height / coins.shape[0]), height))
    y += height + 8
    metres = depth.depth(level=len(depth.levels) - 1)  # the range of the colors
    low, high = metres[metres > 0].min(), metres.max()
    sheet.bar(columns[0], y, turbo(), f"{low:.2f} m", f"{high:.2f} m", width=width)
    x = columns[2]
    ids, colors = sizes.ids(level=0), sizes.colors(level=0)
    for number, name in list(enumerate(COIN_SIZES))[1:]:
        x = sheet.swatch(x, y, tuple(colors[ids == number][0].tolist()), name)
    sheet.y = y + 20 + GAP


def _draw_photos(sheet: Sheet, recording: RecordingReader) -> None:
    """Draw the history of the gallery, and two more photographs."""
    frames = [
        *recording.frames("photos/gallery"),
        _newest(recording, "photos/retina"),
        _newest(recording, "photos/moon"),
    ]
    sheet.heading("photos/gallery, retina, moon", "one photograph a frame; from arrays, JPEG files and a 16-bit PNG")
    shapes = [frame.levels[0] for frame in frames]
    room = sheet.width - 2 * MARGIN - 8 * (len(frames) - 1)
    height = int(room / sum(w / h for h, w in shapes))
    x = MARGIN
    for frame, (h, w) in zip(frames, shapes, strict=True):
        fitting = max(n for n, (level_height, _) in enumerate(frame.levels) if level_height >= height)
        width, _ = sheet.picture(x, sheet.y, frame_picture(frame, level=fitting), size=(round(w * height / h), height))
        x += width + 8
    sheet.y += height
