"""What the documents show runs."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lumatile as lt
from lumatile_kernels.layout import pyramid_layout

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "README.md", ROOT / "deploy" / "README.md"]
)
DOCUMENTS = [path for path in PAGES if "```python\n" in path.read_text(encoding="utf-8")]
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def python_of(path):
    """All Python blocks of a document as one program, each at its own line number."""
    lines, inside = [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_python_of_a_document_runs(path, tmp_path):
    if path.name == "store-format.md":
        recording = lt.new_recording("documents", "run", sink=str(tmp_path / "store"))
        recording.log_image("camera", np.zeros((300, 300, 3), np.uint8))
        recording.disconnect()
    program = tmp_path / f"{path.stem}.py"
    program.write_text(python_of(path))
    done = subprocess.run(
        [sys.executable, "-W", "error", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_the_readme_has_python():
    assert ROOT / "README.md" in DOCUMENTS


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_into_the_tree_lead_somewhere(path):
    targets = [t for t in LINK.findall(path.read_text(encoding="utf-8")) if "://" not in t]
    assert [t for t in targets if not (path.parent / t).exists()] == []


def test_tests_named_in_a_document_exist():
    defined = {
        path.name: set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in (ROOT / "tests").rglob("test_*.py")
    }
    everywhere = set().union(*defined.values())
    missing = []
    for document in PAGES:
        names = re.findall(r"`(?:(test_\w+\.py)::)?(test_\w+)`", document.read_text(encoding="utf-8"))
        missing += [(document.name, *name) for name in names if name[1] not in defined.get(name[0], everywhere)]
        assert len(names) > 40 or document.name != "reliability.md"
    assert missing == []


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_what_a_page_for_newcomers_names_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    files = [path for package in ("kernels", "sdk", "service") for path in (ROOT / package).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in [*files, *(ROOT / "tests").rglob("*.py")])
    defined = set(re.findall(r"^ *class (\w+)|^([A-Z][A-Za-z_]+)\b.* = ", code, re.MULTILINE))
    known = {word for pair in defined for word in pair} | {"Condition", "RLock", "LUMATILE_TLS_ROOTS"}
    named = {word for span in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\b[A-Z][A-Za-z_]{2,}\b", span)}
    assert named - known - {"NAME", "CHAOS", "TEST", "README", "CHANGELOG"} == set()


def test_threads_named_in_the_architecture_are_those_of_the_code():
    table = (
        (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Threads")[2].partition("## ")[0]
    )
    named = {
        word for first in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for word in re.findall(r"`(\w+)`", first)
    }
    files = [path for package in ("kernels", "sdk", "service") for path in (ROOT / package).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert named
    assert [name for name in sorted(named) if f'"lumatile-{name}"' not in code and f'"{name}"' not in code] == []


def test_commands_named_in_the_readme_exist():
    named = set(
        re.findall(r"\blumatile (\w+)\b", " ".join(re.findall(r"`([^`\n]+)`", (ROOT / "README.md").read_text())))
    )
    help_text = subprocess.run(
        [sys.executable, "-c", "from lumatile_service.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert named
    assert [name for name in sorted(named) if not re.search(rf"\b{name}\b", help_text)] == []


@pytest.mark.parametrize(
    ("label", "texel_bytes"),
    [("linear", 8), ("srgb8", 4), ("rgba32float", 16), ("r32float", 4), ("r8uint", 1), ("r16uint", 2)],
)
def test_the_readmes_bytes_a_pixel_are_those_of_a_4k_frame(label, texel_bytes):
    (row,) = (
        line
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and (f'"{label}"' in line or f"| `{label}`" in line)
    )
    assert f"{pyramid_layout(2160, 3840, texel_bytes).nbytes / (2160 * 3840):.2f}" in row
