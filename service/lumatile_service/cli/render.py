"""`lumatile render`: write a stored frame as a PNG file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import lumatile as lt
from lumatile.errors import InvalidValueError, NotFoundError
from lumatile_kernels.decode.png import encode_png
from lumatile_service.cli.instant import At, frame_at
from lumatile_service.cli.output import Json, StorePath, print_json
from lumatile_service.show.picture import frame_picture
from lumatile_service.show.point_view import PointView


def render(
    store: StorePath,
    entity: Annotated[str, typer.Argument(help="Entity path.")],
    *,
    out: Annotated[Path, typer.Option("--output", "-o", help="The PNG file to write.")],
    recording: Annotated[str | None, typer.Option(help="Recording id; may be left out if there is only one.")] = None,
    at: At = None,
    level: Annotated[int, typer.Option(min=0, help="The level; 0 is full resolution.")] = 0,
    tile: Annotated[str | None, typer.Option(metavar="X,Y", help="Draw only one tile: its column and row.")] = None,
    width: Annotated[
        int, typer.Option(min=16, max=16384, help="Only for points: width of the picture, in pixels.")
    ] = 800,
    height: Annotated[
        int, typer.Option(min=16, max=16384, help="Only for points: height of the picture, in pixels.")
    ] = 600,
    yaw: Annotated[float, typer.Option(help="Only for points: rotation about the vertical axis, in degrees.")] = 0.0,
    pitch: Annotated[
        float, typer.Option(help="Only for points: then rotation about the horizontal axis, in degrees.")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Write a frame, a level or a tile as a PNG picture.

    Depth is drawn in the colormap Turbo, a segmentation in the colors of its classes, points as dots.
    """
    frame = frame_at(lt.open_store(store).recording(recording), entity, at)
    place = _tile_place(tile)
    if frame.kind == "points" and (level or place):
        raise InvalidValueError("points are drawn whole: --level and --tile are for images, depth and segmentations")
    if frame.kind != "points" and level >= len(frame.levels):
        raise NotFoundError(f"{entity!r} has levels 0 to {len(frame.levels) - 1}, not {level}")
    view = PointView(width=width, height=height, yaw=yaw, pitch=pitch)
    try:
        pixels = frame_picture(frame, level=level, tile=place, view=view)
    except NotFoundError as e:
        raise NotFoundError(f"{entity!r} has no tile {tile} in level {level}") from e
    if not pixels.size:
        raise InvalidValueError(f"{entity!r} is empty: its shape is {frame.shape}")
    try:
        out.write_bytes(encode_png(pixels))
    except OSError as e:
        raise InvalidValueError(f"cannot write {out}: {e.strerror}") from e
    size = {"width": pixels.shape[1], "height": pixels.shape[0]}
    if as_json:
        print_json({"file": str(out), "entity_path": frame.entity_path, "kind": frame.kind, "level": level} | size)
    else:
        print(f"{out}: {frame.kind} {frame.entity_path}, {size['width']} x {size['height']}")


def _tile_place(tile: str | None) -> tuple[int, int] | None:
    if tile is None:
        return None
    x, _, y = tile.partition(",")
    if not (x.strip().isdecimal() and y.strip().isdecimal()):
        raise InvalidValueError(f"--tile must be X,Y: a column and a row, not {tile!r}")
    return int(x), int(y)
