"""Point clouds as PLY files, binary little-endian (Greg Turk, "The PLY Polygon File Format", 1994)."""

from __future__ import annotations

import numpy as np

from lumatile.read.point_cloud import PointCloud

TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "u2": "ushort"}
"""Type codes of numpy -> names of types in PLY."""


def encode_ply(cloud: PointCloud) -> bytes:
    """Return a PLY file of a cloud, with its points in logged order.

    The properties of a vertex are x, y, z (float, or double if positions are float64; z is 0 in a cloud of two
    dimensions), and if the cloud has them red, green, blue, alpha (uchar, sRGB), radius (float), class_id and
    keypoint_id (ushort). PLY has no strings and no 64-bit integers: labels and identifiers are left out.
    """
    real = "f8" if cloud.positions.dtype == np.float64 else "f4"
    columns = [(axis, real, cloud.positions[:, i]) for i, axis in enumerate("xyz"[: cloud.positions.shape[1]])]
    if len(columns) == 2:
        columns.append(("z", real, np.zeros(len(cloud))))
    if cloud.colors is not None:
        columns += [(name, "u1", cloud.colors[:, i]) for i, name in enumerate(("red", "green", "blue", "alpha"))]
    for name, kind, values in (
        ("radius", "f4", cloud.radii),
        ("class_id", "u2", cloud.class_ids),
        ("keypoint_id", "u2", cloud.keypoint_ids),
    ):
        if values is not None:
            columns.append((name, kind, values))
    vertices = np.empty(len(cloud), np.dtype([(name, f"<{kind}") for name, kind, _ in columns]))
    for name, _, values in columns:
        vertices[name] = values
    properties = "".join(f"property {TYPES[kind]} {name}\n" for name, kind, _ in columns)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(cloud)}\n{properties}end_header\n"
    return header.encode() + vertices.tobytes()
