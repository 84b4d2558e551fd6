"""The command line: what it says about a store, and how it says that something is wrong.

Longer than other files: its tests share one store that is made once.
"""

import json
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

import lumatile as lt
import lumatile_kernels
from lumatile_service.cli import main
from lumatile_service.show.point_view import PointView, draw_points

POSITIONS = np.array([[0.0, 0, 5], [4, 0, 5], [0, 3, 5], [4, 3, 5], [0, 0, 9]])
RGB = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 255, 255]], np.uint8)
NEAR, FAR = (0x30, 0x12, 0x3B), (0x7A, 0x04, 0x03)
"""First and last color of Turbo, as published."""


def photo():
    y, x = np.mgrid[:600, :700]
    return np.stack([y % 256, x % 256, (x + y) % 256], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with one recording of every kind of value, and an error."""
    path = tmp_path_factory.mktemp("cli") / "runs"
    recording = lt.new_recording("cli test", "run/1", sink=str(path))
    for frame in range(2):
        recording.set_time_sequence("frame", frame)
        recording.log_image("camera/rgb", photo() // (2 - frame), ext={"lens": 2})
    recording.log_depth_image("camera/depth", np.array([[0, 1000], [1500, 2000]], np.uint16))
    recording.log_annotation_context("camera/[bold]ids", [(1, "one", (10, 20, 30))])
    recording.log_segmentation_image("camera/[bold]ids", np.array([[0, 1], [1, 0]], np.uint8))
    recording.log_points("cloud", POSITIONS, colors=RGB)
    recording.log_points("empty")
    with pytest.warns(lt.LumatileWarning):
        recording.log_image("camera/rgb", np.zeros((4, 4, 7), np.uint8))
    recording.disconnect()
    return path


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command line in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["lumatile", *map(str, arguments)])
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as exit_:
                main()
        out, err = capsys.readouterr()
        return exit_.value.code or 0, out, err

    return call


@pytest.fixture
def run_json(run):
    """Run a command line with --json: exit code and what it printed."""

    def call(*arguments):
        code, out, err = run(*arguments, "--json")
        assert err == ""
        return code, json.loads(out)

    return call


def test_ls_counts_what_was_logged(run_json, store):
    code, report = run_json("ls", store)
    (recording,) = report["recordings"]
    assert code == 0
    assert (recording["recording_id"], recording["application_id"]) == ("run/1", "cli test")
    assert (recording["values"], recording["errors"], recording["dropped"]) == (8, 1, 0)
    assert [(e["entity_path"], e["kind"], e["values"], e["errors"]) for e in recording["entities"]] == [
        ("camera/[bold]ids", "annotation_context", 1, 0),
        ("camera/[bold]ids", "segmentation", 1, 0),
        ("camera/depth", "depth", 1, 0),
        ("camera/rgb", "image", 3, 1),
        ("cloud", "points", 1, 0),
        ("empty", "points", 1, 0),
    ]
    assert recording["bytes"] == sum(p.stat().st_size for p in store.rglob("*.arrow"))
    timelines = {t["name"]: (t["kind"], t["first"], t["last"]) for t in recording["timelines"]}
    assert timelines["frame"] == ("sequence", 0, 1)
    assert timelines["log_tick"][1:] == (0, 7)
    assert timelines["log_time"][1] <= timelines["log_time"][2]


def test_ls_shows_paths_as_they_are(run, store):
    code, out, err = run("ls", store)
    assert (code, err) == (0, "")
    assert "camera/[bold]ids" in out
    assert "  1 error\n" in out


def test_ls_of_an_empty_directory_is_fine(run, run_json, tmp_path):
    assert run("ls", tmp_path) == (0, f"no recordings in {tmp_path}\n", "")
    assert run_json("ls", tmp_path) == (0, {"store": str(tmp_path), "recordings": []})


def test_info_shows_a_recording_with_its_errors(run, run_json, store):
    code, report = run_json("info", store)
    assert code == 0
    (error,) = report["error_rows"]
    assert error["entity_path"] == "camera/rgb"
    assert "7" in error["error"]
    assert error["error"] in run("info", store, "run/1")[1]


def test_info_shows_a_frame(run, run_json, store):
    code, report = run_json("info", store, "run/1", "camera/rgb")
    assert code == 0
    assert (report["shape"], report["dtype"], report["format"]) == ([600, 700, 3], "uint8", "rgba16float")
    assert report["levels"] == [[600, 700], [300, 350], [150, 175]]
    assert report["times"]["frame"] == {"kind": "sequence", "value": 1}
    assert report["ext"] == {"lens": 2}
    (plane,) = report["planes"]
    assert (plane["plane"], plane["codec"], plane["tiles"]) == ("pixels", "raw", 9 + 4 + 1)
    pitches = (
        [256 * 8, 256 * 8, -(-188 * 8 // 256) * 256],
        [256 * 8, 94 * 8 // 256 * 256 + 256],
        [175 * 8 // 256 * 256 + 256],
    )
    assert plane["bytes"] == sum(h * sum(p) for h, p in zip((600, 300, 150), pitches, strict=True))
    code, out, err = run("info", store, "run/1", "camera/rgb")
    assert (code, err) == (0, "")
    assert "700 x 600, 350 x 300, 175 x 150" in out


def test_at_takes_the_times_that_ls_prints(run, run_json, tmp_path):
    recording = lt.new_recording("app", "run", sink=tmp_path / "store")
    times = [-1, 0, 1_500_000_000, 1_796_082_374_940_872_764]
    for seq, nanos in enumerate(times):
        recording.set_time_nanos("sim time", nanos)
        recording.log_point(f"p{seq}", [0, 0])
    recording.disconnect()
    printed = [run("info", tmp_path / "store", "run", f"p{seq}")[1] for seq in range(len(times))]
    printed = [re.search(r"sim time +(.*?) *\n", text)[1] for text in printed]
    assert printed[0] == "1969-12-31 23:59:59.999999999"
    assert printed[2] == "1970-01-01 00:00:01.500"
    assert f"sim time: {printed[0]} to {printed[-1]}\n" in run("ls", tmp_path / "store")[1]
    for seq, text in enumerate(printed):
        for form in (text, text.replace(" ", "T") + "Z"):
            code, report = run_json("info", tmp_path / "store", "run", f"p{seq}", "--at", f"sim time={form}")
            assert (code, report["times"]["sim time"]["value"]) == (0, times[seq])
    assert run("info", tmp_path / "store", "run", "p3", "--at", "sim time=2020")[0] == 2


def test_info_finds_the_frame_that_holds_at_an_instant(run_json, store):
    _, report = run_json("info", store, "run/1", "camera/rgb", "--at", "frame=0")
    assert report["times"]["frame"]["value"] == 0


def test_verify_of_a_sound_store_is_fine(run, run_json, store):
    code, report = run_json("verify", store)
    assert (code, report["ok"], report["problems"]) == (0, True, [])
    assert report["bytes"] == sum(p.stat().st_size for p in store.rglob("*.arrow"))
    code, out, _ = run("verify", store)
    assert code == 0
    assert "all checksums hold" in out


def test_verify_names_a_flipped_bit(run, run_json, store, tmp_path):
    broken = tmp_path / "runs"
    shutil.copytree(store, broken)
    tiles = max(broken.rglob("tiles/*.arrow"), key=lambda path: path.stat().st_size)
    tile = np.ascontiguousarray(lt.open_store(store).recording("run/1").latest_at("camera/rgb", frame=1).tile())
    content = bytearray(tiles.read_bytes())
    row = tile[100].tobytes()
    content[content.index(row) + len(row) // 2] ^= 1  # in a tile, not in what pads the file
    tiles.write_bytes(content)
    code, report = run_json("verify", broken)
    assert (code, report["ok"]) == (1, False)
    (problem,) = report["problems"]
    assert (problem["path"], problem["entity_path"]) == (str(tiles), "camera/rgb")
    assert problem["tile"].startswith("pixels level=0")
    code, out, _ = run("verify", broken)
    assert code == 1
    assert str(tiles) in out
    assert "camera/rgb" in out


def test_verify_names_a_missing_tiles_file(run, store, tmp_path):
    broken = tmp_path / "runs"
    shutil.copytree(store, broken)
    tiles = next(broken.rglob("tiles/*.arrow"))
    tiles.unlink()
    code, out, _ = run("verify", broken)
    assert code == 1
    assert str(tiles) in out


def rendered(run, tmp_path, *arguments):
    path = tmp_path / "out.png"
    code, _, err = run("render", *arguments, "-o", path)
    assert (code, err) == (0, "")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA"))


def test_render_writes_an_image_as_it_was_logged(run, store, tmp_path):
    picture = rendered(run, tmp_path, store, "camera/rgb")
    np.testing.assert_array_equal(picture[..., :3], photo())
    assert (picture[..., 3] == 255).all()
    earlier = rendered(run, tmp_path, store, "/camera/rgb", "--at", "frame=0", "--recording", "run/1")
    np.testing.assert_array_equal(earlier[..., :3], photo() // 2)


def test_render_writes_a_level_or_a_tile(run, store, tmp_path):
    assert rendered(run, tmp_path, store, "camera/rgb", "--level", 2).shape == (150, 175, 4)
    tile = rendered(run, tmp_path, store, "camera/rgb", "--tile", "2,1")
    np.testing.assert_array_equal(tile[..., :3], photo()[256:512, 512:])


def test_render_draws_depth_in_turbo_and_leaves_the_invalid_out(run, store, tmp_path):
    picture = rendered(run, tmp_path, store, "camera/depth")
    assert picture[0, 0, 3] == 0
    assert tuple(picture[0, 1]) == (*NEAR, 255)
    assert tuple(picture[1, 1]) == (*FAR, 255)


def test_render_draws_a_segmentation_in_its_colors(run, store, tmp_path):
    picture = rendered(run, tmp_path, store, "camera/[bold]ids")
    assert picture[..., 3].tolist() == [[0, 255], [255, 0]]
    assert picture[0, 1].tolist() == [10, 20, 30, 255]


def test_render_draws_points_with_the_nearest_on_top(run, store, tmp_path):
    picture = rendered(run, tmp_path, store, "cloud", "--width", 80, "--height", 60)
    corners = [picture[0, 0], picture[0, -1], picture[-1, 0], picture[-1, -1]]
    assert [tuple(corner[:3]) for corner in corners] == [tuple(color) for color in RGB[:4].tolist()]
    assert not rendered(run, tmp_path, store, "empty").any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ls", "nowhere"), "nowhere"),
        (("verify", "nowhere"), "nowhere"),
        (("info", "STORE", "run/2"), "run/2"),
        (("info", "STORE", "run/1", "camera/nothing"), "camera/nothing"),
        (("info", "STORE", "run/1", "camera/rgb", "--at", "frame"), "TIMELINE=VALUE"),
        (("info", "STORE", "run/1", "camera/rgb", "--at", "step=1"), "step=1"),
        (("info", "STORE", "run/1", "camera/rgb", "--at", "frame=x"), "'x'"),
        (("info", "STORE", "run/1", "camera/rgb", "--at", "frame=-1"), "frame=-1"),
        (("info", "STORE", "run/1", "camera/rgb", "--at", "log_time=now"), "in seconds or UTC"),
        (("render", "STORE", "camera/rgb", "-o", "OUT", "--level", "3"), "levels 0 to 2, not 3"),
        (("render", "STORE", "camera/rgb", "-o", "OUT", "--tile", "3,0"), "3,0"),
        (("render", "STORE", "camera/rgb", "-o", "OUT", "--tile", "-1,0"), "-1,0"),
        (("render", "STORE", "cloud", "-o", "OUT", "--level", "1"), "points"),
        (("render", "STORE", "camera/rgb", "-o", "STORE/no/dir.png"), "no/dir.png"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(run, store, tmp_path, arguments, message):
    places = {"STORE": str(store), "OUT": str(tmp_path / "out.png")}
    code, out, err = run(*(arg.replace("STORE", places["STORE"]).replace("OUT", places["OUT"]) for arg in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("lumatile: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    "arguments", [("nothing",), ("ls",), ("ls", "a", "b"), ("ls", "a", "--tile"), ("render", "a", "b")]
)
def test_a_wrong_command_line_exits_with_2(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Usage" in err


def test_a_damaged_segment_is_said_and_the_rest_is_shown(run, store, tmp_path):
    broken = tmp_path / "runs"
    shutil.copytree(store, broken)
    recording = lt.new_recording("cli test", "run/1", sink=str(broken))
    recording.log_point("later", [1, 2])
    recording.disconnect()
    frames = max(broken.rglob("frames/*.arrow"))
    frames.write_bytes(frames.read_bytes()[:-1])
    code, out, err = run("ls", broken)
    assert code == 0
    assert "  1 damaged segment\n" in out
    assert err.startswith("lumatile: warning: ")


def test_doctor_says_what_runs_here_and_why_the_rest_does_not(run, run_json):
    code, report = run_json("doctor")
    backends = {entry["name"]: entry for entry in report["backends"]}
    assert backends["numpy"]["available"]
    assert backends["cuda"]["available"] or "backend 'cuda' needs" in backends["cuda"]["reason"]
    assert backends[report["backend"]]["available"]
    assert report["packages"]["numpy"] == np.__version__
    assert report["machine"]["cores"] >= 1
    assert code == (1 if report["problems"] else 0)
    out = run("doctor")[1]
    assert backends["cuda"]["reason"] in out


def test_doctor_shows_brackets_in_reasons_and_problems(run, monkeypatch):
    real = lumatile_kernels.select_backend

    def select(name):
        if name == "numba":
            raise ImportError("pip install 'lumatile[gpu-cu13]'")
        return real("numpy")

    monkeypatch.setattr("lumatile_service.cli.doctor.select_backend", select)
    out = run("doctor")[1]
    lines = [line.split()[0] for line in out.splitlines() if "'lumatile[gpu-cu13]'" in line]
    assert lines == ["backend", "problem:"], out


def test_doctor_finds_a_backend_that_does_not_do_what_numpy_does(run_json, monkeypatch):
    from lumatile_kernels.host.numba_backend import NumbaBackend
    from lumatile_kernels.host.numpy_backend import NumpyBackend

    monkeypatch.setattr(NumbaBackend, "image", lambda _, image: NumpyBackend().image(image + 1))
    code, report = run_json("doctor")
    assert code == 1
    assert any("numba" in problem for problem in report["problems"])


@pytest.mark.parametrize(
    ("environment", "note"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "Ray's token authentication is off (RAY_AUTH_MODE=disabled)"),
        ({}, "Ray's token authentication is off for a Ray that is joined from here"),
        ({"RAY_AUTH_MODE": "token"}, None),
        ({"RAY_AUTH_MODE": "TOKEN"}, None),
        ({"RAY_AUTH_TOKEN_PATH": "/etc/token"}, None),
        ({"RAY_AUTH_TOKEN": "0" * 32}, None),
    ],
)
def test_doctor_notes_that_rays_token_authentication_is_off(run, run_json, monkeypatch, tmp_path, environment, note):
    pytest.importorskip("ray")
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, setting in environment.items():
        monkeypatch.setenv(name, setting)
    code, report = run_json("doctor")
    assert code == (1 if report["problems"] else 0)
    if note is None:
        assert report["notes"] == []
    else:
        assert [each.startswith(note) for each in report["notes"]] == [True]
        assert f"note: {note}" in run("doctor")[1]


def test_doctor_exits_with_1_where_jpeg_files_cannot_be_decoded(run_json, monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    code, report = run_json("doctor")
    assert code == 1
    assert any("JPEG" in problem for problem in report["problems"])
    assert not any(d["available"] for d in report["decoders"] if d["format"] == "jpeg")


def test_without_typer_it_says_what_to_install():
    code = "import sys; sys.modules['typer'] = None; from lumatile_service.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "lumatile[local]" in done.stderr
    assert done.stderr.count("\n") == 1


def white(count):
    return np.full((count, 4), 255, np.uint8)


def test_a_nearer_point_hides_a_farther_one_whatever_their_order():
    colors = np.array([[255, 0, 0, 255], [0, 255, 0, 255]], np.uint8)
    view = PointView(height=9, width=9)
    for order in ([0, 1], [1, 0]):
        seen = draw_points(np.array([[0.0, 0, 1], [0, 0, 2]])[order], colors[order], view)
        assert np.unique(seen.reshape(-1, 4), axis=0).tolist() == [[0, 0, 0, 0], [255, 0, 0, 255]]


def test_turning_a_cloud_by_yaw_shows_it_from_the_side():
    line = np.array([[0.0, 0, z] for z in range(5)])
    front = draw_points(line, white(5), PointView(height=50, width=50, dot=1))
    side = draw_points(line, white(5), PointView(height=50, width=50, dot=1, yaw=90))
    assert (front[..., 3] > 0).sum() == 1
    assert (side[..., 3] > 0).any(axis=0).sum() == 5


@pytest.mark.parametrize(
    "positions",
    [
        np.zeros((0, 3)),
        np.zeros((1, 2)),
        np.array([[np.nan, 0, 0], [np.inf, 0, 0]]),
        np.array([[1e308, -1e308, 0], [-1e308, 1e308, 0]]),
        np.array([[1e-320, 0, 0], [0, 0, 0]]),
        np.full((3, 3), 7, np.float32),
    ],
)
def test_a_cloud_of_any_extent_can_be_drawn(positions):
    seen = draw_points(positions, white(len(positions)), PointView(height=20, width=30))
    finite = np.isfinite(positions).all(axis=1)
    assert (seen[..., 3] > 0).any() == finite.any()
