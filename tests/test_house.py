"""What keeps the code easy to find one's way in: small folders and files, unique names, and privacy."""

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("kernels", "sdk", "service")
CODE = (*PACKAGES, "benchmarks", "examples", "tools")

FILES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    if (ROOT / name).is_file()
]


def sources(folders):
    return [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders]


def trees(folders):
    return [(str(path.relative_to(ROOT)), ast.parse(path.read_text("utf-8"))) for path in sources(folders)]


def test_no_folder_has_more_than_20_files():
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in FILES)
    assert not {folder: count for folder, count in counts.items() if count > 20}


def test_a_file_of_more_than_300_lines_gives_its_reason_first():
    long = [path for path in sources((*CODE, "tests")) if len(path.read_text("utf-8").splitlines()) > 300]
    without = [
        str(path.relative_to(ROOT))
        for path in long
        if not re.search("[Ll]onger than", ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
    ]
    assert not without


def test_no_class_name_stands_twice():
    names = Counter(
        node.name for _, tree in trees((*CODE, "tests")) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    assert not {name for name, count in names.items() if count > 1}


DOCUMENTED = {"sys._getframe", "parts._replace"}
"""Names of the standard library that begin with an underscore and are public."""


def test_no_private_attribute_of_another_object_is_touched():
    touched = [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path, tree in trees(PACKAGES)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and re.match("_[^_]", node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
        and ast.unparse(node) not in DOCUMENTED
    ]
    assert not touched


def test_no_private_name_is_imported():
    imported = [
        f"{path}:{node.lineno}: {alias.name}"
        for path, tree in trees(PACKAGES)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if re.match("_[^_]", alias.name)
    ]
    assert not imported


def test_an_import_for_types_that_closes_a_circle_gives_its_reason():
    grimp = pytest.importorskip("grimp", reason="import-linter is not installed")
    names = ("lumatile", "lumatile_kernels", "lumatile_service")
    graph = grimp.build_graph(*names, cache_dir=None)
    at_run_time = grimp.build_graph(*names, cache_dir=None, exclude_type_checking_imports=True)
    without = []
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            if at_run_time.direct_import_exists(importer=importer, imported=imported):
                continue
            if graph.find_shortest_chain(importer=imported, imported=importer) is None:
                continue
            (place, *_) = graph.get_import_details(importer=importer, imported=imported)
            if "#" not in place["line_contents"]:
                without.append(f"{importer}:{place['line_number']} imports {imported}")
    assert not without
