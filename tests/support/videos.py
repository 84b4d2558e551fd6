"""Videos of real pixels, and what is stored of them."""

from fractions import Fraction

import av
import numpy as np
from skimage import data

import lumatile as lt

CAT = np.ascontiguousarray(data.cat()[:160, :208])
PANNED = [np.roll(CAT, 5 * i, 1) for i in range(12)]


def planar(form, planes):
    """A frame of planes, each (h, w) in the format's own size."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, form)
    for plane, pixels in zip(frame.planes, planes, strict=True):
        padded = np.zeros((pixels.shape[0], plane.line_size // pixels.itemsize), pixels.dtype)
        padded[:, : pixels.shape[1]] = pixels
        plane.update(padded)
    return frame


def packed(form, picture):
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), form)


def write(path, frames, codec="ffv1", form=None, *, times=None, options=None, colors=None, container=None):
    """A video of frames, or of RGB pictures. `times`: of each, in ms. `colors`: matrix coefficients and range."""
    path.parent.mkdir(exist_ok=True, parents=True)
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=25, options=options or {})
        for number, each in enumerate(frames):
            frame = each if isinstance(each, av.VideoFrame) else packed("rgb24", each)
            if number == 0:
                same = "bgr0" if (codec, frame.format.name) == ("ffv1", "rgb24") else frame.format.name
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, form or same
                stream.codec_context.time_base = Fraction(1, 1000)
                if colors:
                    stream.codec_context.colorspace, stream.codec_context.color_range = colors
            if frame.format.name != stream.pix_fmt:
                frame = frame.reformat(format=stream.pix_fmt)
            if colors:
                frame.colorspace, frame.color_range = colors
            frame.time_base = Fraction(1, 1000)
            frame.pts = 40 * number if times is None else times[number]
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def frames_of(store, summary, entity):
    """The frames by number, those without error."""
    frames = lt.open_store(store).recording(summary.recording_id).frames(entity)
    return {frame.times["frame"]: frame for frame in frames if not frame.error}


def errors_of(store, summary):
    recording = lt.open_store(store).recording(summary.recording_id)
    return [frame.error for entity in recording.entities() for frame in recording.frames(entity) if frame.error]
