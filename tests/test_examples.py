"""Each example runs as a user would run it, and says what its documentation promises."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from skimage import data

import lumatile as lt

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = sorted(path for path in EXAMPLES.iterdir() if path.suffix in {".py", ".ipynb"})


def code_of(path):
    """The program of an example; of a notebook its code cells, in order."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")


def run(path, folder):
    program = folder / f"{path.stem}_program.py"
    program.write_text(code_of(path), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", program], cwd=folder, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_each_example_has_a_test_and_a_row_in_the_table():
    assert {path.name for path in FILES} == {
        "pytorch_training.py",
        "robot_log.py",
        "dataset_job.py",
        "explore_store.ipynb",
    }
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in FILES if f"| [`{path.name}`]({path.name}) |" not in table] == []


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed; its CUDA libraries take three gigabytes"
)
def test_the_pytorch_loop_learns_and_logs_its_tensors(tmp_path):
    lines = run(EXAMPLES / "pytorch_training.py", tmp_path)
    losses = [float(line.partition("loss ")[2].partition(",")[0]) for line in lines]
    assert len(losses) == 4
    assert losses[-1] < losses[0] / 4
    (recording,) = lt.open_store(tmp_path / "runs").recordings()
    stored = lt.open_store(tmp_path / "runs").recording(recording.recording_id)
    assert (stored.latest_at("input", step=0).source() == data.stereo_motorcycle()[0][:256, :256]).all()


def test_the_robot_log_gives_the_state_at_a_time(tmp_path):
    lines = run(EXAMPLES / "robot_log.py", tmp_path)
    assert [line.partition(",")[0] for line in lines] == [
        "camera/depth: depth of 1970-01-01T00:00:00.600000000",
        "camera/distance: segmentation of 1970-01-01T00:00:00.600000000",
        "camera/points: points of 1970-01-01T00:00:00.600000000",
        "camera/rgb: image of 1970-01-01T00:00:00.700000000",
    ]


def test_the_dataset_job_logs_what_is_new(tmp_path):
    first, second, bad, exported = run(EXAMPLES / "dataset_job.py", tmp_path)
    assert first.startswith("3 of 3 files were logged to recording photos-")
    assert second == "2 of 5 files were new; 3 were stored before"
    assert bad.startswith("1 error row: truncated PNG")
    assert exported.startswith("4 frames were exported; left out: {")


def test_the_notebook_runs(tmp_path):
    assert run(EXAMPLES / "explore_store.ipynb", tmp_path) == []


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".ipynb"], ids=lambda path: path.name)
def test_a_notebook_is_committed_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
