"""Video files: the frames that were encoded, at their times, once; broken and hostile files."""

import tracemalloc
from fractions import Fraction

import av
import cloudpickle
import numpy as np
import pytest
from PIL import Image
from tests.support.videos import CAT, PANNED, errors_of, frames_of, packed, write

import lumatile as lt
from lumatile.read.verify import verify
from lumatile_service.batch import ingest
from lumatile_service.batch.formats.video import reader as video
from lumatile_service.batch.formats.video.reader import read
from lumatile_service.batch.source_files import SourceFiles


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mkv", "ffv1", "bgr0"),
        ("a.mov", "png", "rgb24"),
        ("a.avi", "huffyuv", "rgb24"),
        ("a.mp4", "libx264rgb", "rgb24"),
    ],
)
def test_what_was_encoded_without_loss_is_the_source(tmp_path, name, codec, pixels):
    write(tmp_path / "d" / name, PANNED, codec, pixels, options={"qp": "0"} if codec == "libx264rgb" else None)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.format, summary.values, summary.logged, summary.errors) == ("video", 12, 12, {})
    frames = frames_of(tmp_path / "store", summary, "a")
    assert sorted(frames) == list(range(12))
    for number, frame in frames.items():
        np.testing.assert_array_equal(frame.source(), PANNED[number])
        assert frame.times["time"] == np.datetime64(number * 40_000_000, "ns")
        assert frame.provenance["member"] == f"frame={number}"
        assert frame.provenance["uri"] == (tmp_path / "d" / name).as_uri()
    assert verify(tmp_path / "store").ok


def test_on_a_second_run_nothing_is_logged_twice(tmp_path):
    write(tmp_path / "d" / "a.mp4", PANNED, "libx264", "yuv420p")
    first = ingest(tmp_path / "d", tmp_path / "store")
    again = ingest(tmp_path / "d", tmp_path / "store")
    assert (first.logged, again.logged, again.stored_before, again.bytes_out) == (12, 0, 12, 0)
    write(tmp_path / "d" / "b.mp4", PANNED[:5], "libx264", "yuv420p")
    third = ingest(tmp_path / "d", tmp_path / "store")
    assert (third.logged, third.stored_before, third.changed) == (5, 12, 0)


def test_a_frame_is_where_its_time_is_also_at_an_uneven_rate(tmp_path):
    times = [70, 100, 233, 234, 1000, 3_600_000]
    write(tmp_path / "d" / "a.mkv", PANNED[:6], times=times)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    frames = frames_of(tmp_path / "store", summary, "a")
    assert [frames[i].times["time"] for i in range(6)] == [np.datetime64((t - 70) * 10**6, "ns") for t in times]
    recording = lt.open_store(tmp_path / "store").recording(summary.recording_id)
    np.testing.assert_array_equal(recording.latest_at("a", at={"time": 0.5}).source(), PANNED[3])


def test_times_are_exact_in_a_time_base_that_is_no_fraction_of_a_second(tmp_path):
    path = tmp_path / "d" / "a.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.width, stream.height = 208, 160
        for picture in PANNED:
            out.mux(stream.encode(packed("rgb24", picture).reformat(format="yuv420p")))
        out.mux(stream.encode())
    summary = ingest(tmp_path / "d", tmp_path / "store")
    for number, frame in frames_of(tmp_path / "store", summary, "a").items():
        exact = Fraction(number * 1001 * 10**9, 30000)
        assert frame.times["time"] == np.datetime64(round(exact), "ns")
        assert np.abs(frame.source().astype(int) - PANNED[number]).mean() < 10, "B-frames are in the order of showing"


@pytest.mark.parametrize(
    ("name", "codec", "form", "container"),
    [
        ("a.mkv", "ffv1", "bgr0", None),
        ("a.mov", "png", "rgb24", {"movflags": "faststart"}),
        ("a.avi", "huffyuv", "rgb24", None),
    ],
)
def test_a_truncated_file_gives_the_frames_before_the_cut_and_an_error_row(tmp_path, name, codec, form, container):
    path = write(tmp_path / "d" / name, PANNED, codec, form, container=container)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    write(tmp_path / "d" / "b.mkv", PANNED[:2])
    summary = ingest(tmp_path / "d", tmp_path / "store")
    frames = frames_of(tmp_path / "store", summary, "a")
    assert 3 <= len(frames) <= 8
    assert sorted(frames) == list(range(len(frames)))
    for number, frame in frames.items():
        np.testing.assert_array_equal(frame.source(), PANNED[number])
    (error,) = errors_of(tmp_path / "store", summary)
    assert "truncated" in error
    assert f"(after frame {len(frames) - 1})" in error
    assert len(frames_of(tmp_path / "store", summary, "b")) == 2
    again = ingest(tmp_path / "d", tmp_path / "store")
    assert (again.logged, again.stored_before) == (0, summary.values)
    path.write_bytes(content)
    whole = ingest(tmp_path / "d", tmp_path / "store")
    assert (whole.logged, whole.stored_before) == (12 - len(frames), len(frames) + 2)


@pytest.mark.parametrize("part", [0.5, 0.6, 0.7, 0.9, 0.97, 0.98])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_truncated_file_with_b_frames_gives_the_first_frames_as_the_whole_file_does(tmp_path, name, part):
    rng = np.random.default_rng(0)
    pictures = [np.clip(picture + rng.normal(0, 9, CAT.shape), 0, 255).astype(np.uint8) for picture in PANNED * 4]
    container = {"movflags": "faststart"} if name == "a.mp4" else None
    path = write(tmp_path / "d" / name, pictures, "libx264", "yuv420p", container=container)
    whole = frames_of(tmp_path / "whole", ingest(tmp_path / "d", tmp_path / "whole"), "a")
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    summary = ingest(tmp_path / "d", tmp_path / "store")
    frames = frames_of(tmp_path / "store", summary, "a")
    assert (len(whole), sum(summary.errors.values())) == (48, 1)
    assert 48 * part - 24 < len(frames) < 48
    assert sorted(frames) == list(range(len(frames)))
    for number, frame in frames.items():
        np.testing.assert_array_equal(frame.source(), whole[number].source())
        assert frame.times["time"] == whole[number].times["time"]


def test_damage_in_the_middle_is_never_logged_as_a_picture(tmp_path):
    path = write(tmp_path / "d" / "a.mov", PANNED, "png", "rgb24")
    content = bytearray(path.read_bytes())
    at = [i for i in range(len(content)) if content[i : i + 8] == b"\x89PNG\r\n\x1a\n"]
    assert len(at) == 12
    content[at[6] + 200 : at[6] + 300] = bytes(100)
    path.write_bytes(content)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    frames = frames_of(tmp_path / "store", summary, "a")
    assert sorted(frames) == list(range(6))
    (error,) = errors_of(tmp_path / "store", summary)
    assert "corrupt" in error


def test_noise_in_a_video_never_ends_a_job(tmp_path):
    rng = np.random.default_rng(0)
    content = write(tmp_path / "whole.mp4", PANNED, "libx264", "yuv420p").read_bytes()
    (tmp_path / "d").mkdir()
    for i in range(40):
        noisy = bytearray(content)
        for at in rng.integers(0, len(content), 1 << rng.integers(0, 8)):
            noisy[at] = rng.integers(256)
        (tmp_path / "d" / f"{i}.mp4").write_bytes(noisy)
    summary = ingest(tmp_path / "d", tmp_path / "store", tile_format="srgb8")
    assert summary.logged == summary.values > 40
    assert verify(tmp_path / "store").ok


def test_what_is_no_video_is_one_error_row(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.mp4").write_bytes(b"")
    (tmp_path / "d" / "b.mp4").write_bytes(b"no video " * 100)
    Image.fromarray(CAT).save(tmp_path / "d" / "c.avi", "jpeg")
    with av.open(str(tmp_path / "d" / "d.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    (tmp_path / "d" / "e.mkv").write_bytes(b"\x1a\x45\xdf\xa3")
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.values, summary.logged, sum(summary.errors.values())) == (5, 5, 5)
    assert [reason for reason in summary.errors if "there is no video in it" in reason]


def test_a_video_of_an_unknown_codec_is_an_error_row(tmp_path):
    path = write(tmp_path / "d" / "a.avi", PANNED[:2], "huffyuv", "rgb24")
    path.write_bytes(path.read_bytes().replace(b"HFYU", b"XYZ9"))
    (reason,) = ingest(tmp_path / "d", tmp_path / "store").errors
    assert reason == "FFmpeg has no decoder for its video (at its beginning)"


def test_a_playlist_or_session_description_opens_no_other_file_or_socket(tmp_path):
    secret = write(tmp_path / "secret.ts", PANNED, "libx264", "yuv420p")
    (tmp_path / "d").mkdir()
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret.as_uri()}\n#EXT-X-ENDLIST\n"
    (tmp_path / "d" / "a.mp4").write_text(playlist)
    (tmp_path / "d" / "b.mp4").write_text(f"ffconcat version 1.0\nfile {secret}\n")
    session = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 40000 RTP/AVP 96\n"
    (tmp_path / "d" / "c.mp4").write_text(session)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.values, sum(summary.errors.values())) == (3, 3)
    assert not [reason for reason in summary.errors if "timed out" in reason], "FFmpeg listened"


def test_the_pixel_limit_holds_from_the_header(tmp_path, monkeypatch):
    write(tmp_path / "d" / "a.mkv", PANNED[:2])
    write(tmp_path / "d" / "b.mkv", [CAT[:80]])
    monkeypatch.setattr(video, "PIXEL_LIMIT", CAT[..., 0].size - 1)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    (reason,) = summary.errors
    assert (summary.values, summary.logged) == (2, 2)
    assert "pixels" in reason or "Invalid" in reason
    limited = ingest(tmp_path / "d", tmp_path / "other", pixel_limit=100)
    assert sum(limited.errors.values()) == 2


def test_entities_are_paths_without_the_suffix(tmp_path):
    for name in ("left/day1.mkv", "left/day1.avi", "right/day1.mkv", "top.MKV"):
        write(tmp_path / "d" / name.lower(), PANNED[:2], form="bgr0").rename(tmp_path / "d" / name)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    entities = lt.open_store(tmp_path / "store").recording(summary.recording_id).entities()
    assert sorted(entities) == ["left/day1.avi", "left/day1.mkv", "right/day1", "top"]
    alone = ingest(tmp_path / "d" / "top.MKV", tmp_path / "store")
    assert (alone.format, alone.logged) == ("video", 2)


def test_videos_and_images_together_are_what_most_of_the_files_are(tmp_path):
    write(tmp_path / "d" / "a.mkv", PANNED[:2])
    Image.fromarray(CAT).save(tmp_path / "d" / "a.png")
    assert ingest(tmp_path / "d", tmp_path / "store").format == "video"
    Image.fromarray(CAT).save(tmp_path / "d" / "b.png")
    assert ingest(tmp_path / "d", tmp_path / "store").format == "images"


def test_calls_can_be_sent_to_other_processes(tmp_path):
    write(tmp_path / "d" / "a.mkv", PANNED[:3])
    files = SourceFiles(tmp_path / "d")
    sent = [cloudpickle.loads(cloudpickle.dumps(call)) for call in read(files)]
    assert [call.read() for call in sent] == [picture.tobytes() for picture in PANNED[:3]]
    assert 0 < sum(call.file_nbytes for call in sent) <= files.sizes["a.mkv"]
    assert [call.nbytes for call in sent] == [CAT.nbytes] * 3


def test_one_frame_at_a_time_is_held(tmp_path):
    write(tmp_path / "d" / "a.mkv", (PANNED[i % 12] for i in range(600)))
    tracemalloc.start()
    try:
        for _ in read(SourceFiles(tmp_path / "d")):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * CAT.nbytes + (4 << 20), "of 600 frames"
