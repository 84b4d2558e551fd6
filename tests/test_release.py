"""`make release` says no where the tree, the changelog or the wheel is not ready."""

import subprocess
import zipfile
from pathlib import Path

import pytest
from tools import release

ROOT = Path(__file__).parents[1]


def git(root, *command):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=root, check=True)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "tree"
    (root / "sdk" / "lumatile").mkdir(parents=True)
    (root / "sdk" / "lumatile" / "__init__.py").touch()
    (root / "sdk" / "lumatile" / "py.typed").touch()
    (root / "pyproject.toml").write_text(
        '[project]\nversion = "1.2.3"\n[tool.hatch.build.targets.wheel]\npackages = ["sdk/lumatile"]\n'
    )
    git(tmp_path, "init", "--quiet", str(root))
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "all")
    return root


def wheel_of(root, *names):
    with zipfile.ZipFile(root / "a.whl", "w") as archive:
        for name in (*names, "lumatile-1.2.3.dist-info/METADATA"):
            archive.writestr(name, "")
    return root / "a.whl"


def test_the_version_is_that_of_pyproject(root):
    assert release.version_of(root) == "1.2.3"


def test_a_clean_tree_is_ready(root):
    release.check_clean(root)


def test_a_changed_tree_is_not_ready(root):
    (root / "new.py").touch()
    with pytest.raises(release.NotReadyError, match=r"new\.py"):
        release.check_clean(root)


def test_a_dated_entry_is_ready(root):
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.3] - 2026-12-01\n\n### Added\n\n- A.\n\n## [1.2.2]\n")
    release.check_changelog(root, "1.2.3")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("## [1.2.2] - 2026-11-01\n\n- A.\n", "needs an entry"),
        ("## [1.2.3] - unreleased\n\n- A.\n", "'unreleased'"),
        ("## [1.2.3] - 2026-13-01\n\n- A.\n", "'2026-13-01'"),
        ("## [1.2.3] - 2026-12-01\n\n## [1.2.2] - 2026-11-01\n\n- A.\n", "lists nothing"),
        ("## [1x2.3] - 2026-12-01\n\n- A.\n", "needs an entry"),
    ],
)
def test_a_changelog_without_the_version_is_not_ready(root, text, reason):
    (root / "CHANGELOG.md").write_text(text)
    with pytest.raises(release.NotReadyError, match=reason):
        release.check_changelog(root, "1.2.3")


def test_a_wheel_has_what_is_committed(root):
    release.check_contents(root, wheel_of(root, "lumatile/__init__.py", "lumatile/py.typed"))


@pytest.mark.parametrize("names", [["lumatile/__init__.py"], ["lumatile/__init__.py", "lumatile/py.typed", "more.py"]])
def test_a_wheel_that_lacks_or_adds_a_file_is_not_ready(root, names):
    with pytest.raises(release.NotReadyError, match=r"py\.typed|more\.py"):
        release.check_contents(root, wheel_of(root, *names))


def test_every_package_is_marked_as_typed():
    for package in ("sdk/lumatile", "kernels/lumatile_kernels", "service/lumatile_service"):
        assert (ROOT / package / "py.typed").exists()
