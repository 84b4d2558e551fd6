"""Log a robot's sensors on one timeline, and ask what it saw at a time.

The robot drives along a real scene (Middlebury 2014, "Motorcycle"): its camera sees a window that moves to the right,
ten times a second. Depth comes at half that rate, so a query between two depth images gives the one before.
"""

import numpy as np
from skimage import data

import lumatile as lt

FOCAL_LENGTH = 994.978  # of the camera, in pixels
BASELINE = 0.193001  # of the stereo pair, in metres
SIZE = 400  # of the window, in pixels

photo, _, disparity = data.stereo_motorcycle()
depth = np.where(np.isfinite(disparity), BASELINE * FOCAL_LENGTH / (disparity + 31.086), 0).astype(np.float32)
distances = [
    lt.AnnotationInfo(0, "unknown"),
    lt.AnnotationInfo(1, "near", (219, 68, 85)),
    lt.AnnotationInfo(2, "middle", (245, 176, 66)),
    lt.AnnotationInfo(3, "far", (66, 135, 245)),
]

recording = lt.init("robot", "drive-1", sink="runs")
lt.log_annotation_context("camera", distances)  # names and colors of the class ids below "camera"

for tick in range(10):
    lt.set_time_seconds("time", tick / 10)  # holds for every value that is logged until it is set again
    window = (slice(0, SIZE), slice(30 * tick, 30 * tick + SIZE))
    lt.log_image("camera/rgb", photo[window])
    if tick % 2:
        continue
    metres = depth[window]
    lt.log_depth_image("camera/depth", metres)  # floats are metres; 0: no depth
    lt.log_segmentation_image("camera/distance", np.digitize(metres, [0.01, 2.5, 3.5]).astype(np.uint8))
    y, x = np.nonzero(metres)
    z = metres[y, x]
    positions = np.stack([(x - SIZE / 2) * z / FOCAL_LENGTH, (y - SIZE / 2) * z / FOCAL_LENGTH, z], axis=1)
    lt.log_points("camera/points", positions, colors=photo[window][y, x])
lt.flush()

stored = lt.open_store("runs").recording("drive-1")
for entity in stored.entities():
    frame = stored.latest_at(entity, time=0.7)  # the newest value at 0.7 s or before
    if frame is not None:
        print(f"{entity}: {frame.kind} of {frame.times['time']}, {frame.shape}")
