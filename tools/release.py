"""Check that a release can be made, build it, and try it: `python -m tools.release`.

1. Nothing is uncommitted, and CHANGELOG.md has a dated entry for the version that pyproject.toml says.
2. The sdist is built, and the wheel from the sdist; the wheel has every committed file of the packages, and no other.
3. Wheel and sdist are each installed in a new environment, where a program logs and reads, and the command line runs.

It uploads nothing and tags nothing. It needs git, and a package index for what Lumatile depends on.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

SMOKE = """
import numpy as np
import lumatile as lt

pixels = np.arange(300 * 400 * 3, dtype=np.uint8).reshape(300, 400, 3)
with lt.new_recording("release", "run-1", sink="runs", strict=True) as recording:
    recording.set_time_sequence("step", 1)
    recording.log_image("camera", pixels)
frame = lt.open_store("runs").recording("run-1").latest_at("camera", step=1)
assert (frame.source() == pixels).all()
assert frame.tile(level=0, x=1, y=1).shape[:2] == (44, 144)
"""
"""A program that logs and reads, run in the directory where the commands look at its store."""

COMMANDS = (
    ["ls", "runs"],
    ["info", "runs"],
    ["verify", "runs"],
    ["render", "runs", "camera", "-o", "a.png"],
    ["doctor"],
)


class NotReadyError(Exception):
    """The release cannot be made; the message says what to do first."""


def version_of(root: Path) -> str:
    """Return the version: the one in pyproject.toml, which everything else takes it from."""
    version: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version


def check_clean(root: Path) -> None:
    """Raise NotReadyError if the working tree has changes that are not committed, or files that git does not know."""
    changed = _output("git", "status", "--porcelain", cwd=root)
    if changed:
        raise NotReadyError(f"commit or remove these first:\n{changed}")


def check_changelog(root: Path, version: str) -> None:
    """Raise NotReadyError unless CHANGELOG.md has an entry for the version, with its date and something in it."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    entry = re.search(rf"^## \[{re.escape(version)}\] - (.+)\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
    if entry is None:
        raise NotReadyError(f"CHANGELOG.md needs an entry '## [{version}] - YYYY-MM-DD'")
    try:
        dt.date.fromisoformat(entry[1].strip())
    except ValueError:
        raise NotReadyError(f"CHANGELOG.md must date {version} as YYYY-MM-DD, not {entry[1].strip()!r}") from None
    if "\n- " not in entry[2]:
        raise NotReadyError(f"CHANGELOG.md lists nothing for {version}")


def build(root: Path, dist: Path) -> tuple[Path, Path]:
    """Build the sdist from the tree and the wheel from the sdist, into `dist`; return the paths of both."""
    if dist.exists():
        raise NotReadyError(f"remove {dist} first: it is from an earlier build")
    _run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(dist), cwd=root)
    (sdist,) = dist.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as unpacked:
        with tarfile.open(sdist) as archive:
            archive.extractall(unpacked, filter="data")
        (tree,) = Path(unpacked).iterdir()
        _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(dist), cwd=tree)
    (wheel,) = dist.glob("*.whl")
    return sdist, wheel


def check_contents(root: Path, wheel: Path) -> None:
    """Raise NotReadyError unless the wheel has exactly the committed files of the packages, and a py.typed in each."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    packages = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    committed = {
        path.removeprefix(f"{Path(package).parent}/")
        for package in packages
        for path in _output("git", "ls-files", package, cwd=root).splitlines()
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    if packed != committed:
        raise NotReadyError(
            f"the wheel lacks {sorted(committed - packed)} and has {sorted(packed - committed)} besides"
        )
    for package in packages:
        if f"{Path(package).name}/py.typed" not in packed:
            raise NotReadyError(f"{package} needs a py.typed file: it is typed")


def try_out(artifact: Path, version: str) -> None:
    """Install the wheel or sdist in a new environment; run the program and the commands there."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        venv.create(home / "environment", with_pip=True)
        binaries = home / "environment" / ("Scripts" if sys.platform == "win32" else "bin")
        python = str(binaries / "python")
        _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{artifact}[local]", cwd=home)
        installed = _output(
            python, "-Ic", "from importlib.metadata import version; print(version('lumatile'))", cwd=home
        )
        if installed != version:
            raise NotReadyError(f"{artifact.name} installs version {installed}, not {version}")
        _run(python, "-I", "-W", "error", "-c", SMOKE, cwd=home)
        for command in COMMANDS:
            _output(str(binaries / "lumatile"), *command, cwd=home)


def main() -> None:
    """Do all steps; end with exit code 1 and the reason where one fails."""
    version = version_of(ROOT)
    dist = ROOT / "dist" / version
    try:
        check_clean(ROOT)
        check_changelog(ROOT, version)
        sdist, wheel = build(ROOT, dist)
        check_contents(ROOT, wheel)
        for artifact in (wheel, sdist):
            print(f"installing {artifact.name} in a new environment ...", flush=True)
            try_out(artifact, version)
    except NotReadyError as e:
        sys.exit(f"no release of {version}: {e}")
    except subprocess.CalledProcessError as e:
        sys.exit(f"no release of {version}: {' '.join(map(str, e.cmd))} failed\n{e.stderr or ''}{e.stdout or ''}")
    print(f"{version} is ready in {dist.relative_to(ROOT)}:")
    for artifact in (sdist, wheel):
        print(f"  {hashlib.sha256(artifact.read_bytes()).hexdigest()}  {artifact.name}")
    print(f"to publish it: git tag v{version}, push the tag, upload both files to the package index")


def _run(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True)


def _output(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
