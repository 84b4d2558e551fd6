"""A path or URL of a store or sink that certainly means something else is refused with what to write instead."""

from pathlib import Path

import numpy as np
import pytest

import lumatile as lt
from lumatile.urls import absolute
from lumatile_service.cli import main
from lumatile_service.export import export


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield
    assert not list(Path().iterdir())


REFUSED = [
    ("127.0.0.1:9876", r"grpc://127\.0\.0\.1:9876.*a directory: \./127"),
    ("localhost:9876", "grpc://localhost:9876"),
    ("[::1]:9876", r"grpc://\[::1\]:9876"),
    ("out.rrd", "`lumatile export` writes"),
    ("runs/out.rrd", "`lumatile export` writes"),
    (Path("out.rrd"), "`lumatile export` writes"),
    ("", 'not "".*"\\."'),
    ("file://", "file:///data/runs"),
    ("file://runs", "file:///data/runs"),
    ("file://~/runs", "file:///data/runs"),
    ("~nobody-of-this-name/runs", r"~nobody.* \./~"),
]


@pytest.mark.parametrize(("given", "instead"), REFUSED)
def test_what_is_no_store_is_refused_with_what_to_write(given, instead):
    recording = lt.new_recording("app")
    for use in (
        lambda: lt.new_recording("app", sink=given),
        lambda: recording.save(given),
        lambda: recording.connect(given),
        lambda: lt.open_store(given),
    ):
        with pytest.raises(lt.InvalidValueError, match=instead):
            use()


def test_the_sink_of_the_environment_keeps_the_rules_too(monkeypatch):
    monkeypatch.setenv("LUMATILE_SINK", "localhost:9876")
    recording = lt.new_recording("app")
    assert "localhost:9876" in repr(recording)
    with pytest.warns(lt.LumatileWarning, match="grpc://localhost:9876"):
        recording.log_point("p", [0, 0])
    with pytest.raises(lt.FlushError):
        recording.flush()


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", ""),
        ("verify", ""),
        ("ingest", "SOURCE", "--store", ""),
        ("serve", "--store", ""),
        ("serve", "--store", "out.rrd"),
        ("ingest", "SOURCE", "--store", "localhost:9876"),
    ],
)
def test_the_command_line_keeps_the_rules_too(arguments, tmp_path, monkeypatch, capsys):
    source = tmp_path / "images"
    source.mkdir()
    (source / "a.ppm").write_bytes(b"P6 1 1 255 abc")
    monkeypatch.setattr("sys.argv", ["lumatile", *(arg.replace("SOURCE", str(source)) for arg in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "a store must be" in (error := capsys.readouterr().err) or "a store is" in error or "a service is" in error


@pytest.mark.parametrize("given", ["~/runs", Path("~/runs"), "~"])
def test_a_tilde_is_the_users_home(given, tmp_path):
    (tmp_path / "home").mkdir()
    recording = lt.new_recording("app", "run", sink=given)
    recording.log_image("a", np.zeros((2, 2), np.uint8))
    recording.disconnect()
    export(given, "run", "~/pictures", format="images")
    assert list((tmp_path / "home" / "pictures").rglob("*.png"))
    where = tmp_path / "home" / ("" if given == "~" else "runs")
    assert (where / "run").is_dir()
    assert len(lt.open_store(given).recording("run")) == 1


@pytest.mark.parametrize("given", ["./127.0.0.1:9876", Path("127.0.0.1:9876"), "a:b", "9876:x", "rrd", "a~"])
def test_other_paths_are_paths(given):
    assert absolute(given) == str(Path.cwd() / given)
