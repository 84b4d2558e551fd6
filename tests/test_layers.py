"""Who may import whom, and what has one home."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("kernels/lumatile_kernels", "sdk/lumatile", "service/lumatile_service")

HOMES = {
    "ray": {
        "service/lumatile_service/cluster/ray_session.py",
        "service/lumatile_service/cluster/ray_actors.py",
        "service/lumatile_service/batch/engine/ray_batches.py",
        "service/lumatile_service/ray_data/content_form.py",
        "service/lumatile_service/ray_data/recording_source.py",
        "service/lumatile_service/ray_data/tile_sink.py",
    },
    "cupy": {"kernels/lumatile_kernels/cuda/cuda_device.py", "kernels/lumatile_kernels/cuda/compile.py"},
    "nvidia": {"kernels/lumatile_kernels/decode/dali_pipelines.py"},
    "obstore": {"sdk/lumatile/storage/object_client.py"},
    "av": {"service/lumatile_service/batch/formats/video/frames.py"},
    "pycocotools": {"service/lumatile_service/batch/formats/coco/masks.py"},
    "rerun": {
        "service/lumatile_service/batch/formats/rerun/file.py",
        "service/lumatile_service/export/rerun_archetypes.py",
    },
    "prometheus_client": {"service/lumatile_service/metrics/prometheus.py"},
}
"""package -> the only files that may import it."""

HEAVY = (
    "numba",
    "llvmlite",
    "cupy",
    "ray",
    "nvidia",
    "imagecodecs",
    "obstore",
    "prometheus_client",
    "simplejpeg",
    "typer",
    "rich",
    "av",
    "pandas",
    "PIL",
    "pycocotools",
    "rerun",
    "lumatile_service",
)


def source_files():
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imported_packages(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "import_module":
            yield from (str(a.value).partition(".")[0] for a in node.args if isinstance(a, ast.Constant))


def files_with(pattern):
    return {str(p.relative_to(ROOT)) for p in source_files() if re.search(pattern, p.read_text("utf-8"))}


@pytest.mark.parametrize("package", HOMES)
def test_a_heavy_package_is_imported_in_its_home_only(package):
    importers = {str(p.relative_to(ROOT)) for p in source_files() if package in imported_packages(p)}
    assert importers <= HOMES[package]


def test_dali_is_imported_at_all():
    assert files_with(r"\bnvidia\.dali\b") & HOMES["nvidia"]


def test_arrow_schemas_are_made_in_one_file():
    assert files_with(r"\bpa\.schema\(|\bpyarrow\.schema\(") == {"sdk/lumatile/format/schema.py"}


def test_the_srgb_curve_and_the_class_hue_are_written_once():
    assert files_with(r"12\.92|1\.055|0\.618034") == {"kernels/lumatile_kernels/tables.py"}


@pytest.mark.parametrize("package", ["lumatile", "lumatile_kernels"])
def test_importing_loads_no_heavy_package(package):
    code = f"import sys, {package}; print(*sorted(m for m in sys.modules if '.' not in m))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert package in out
    assert not set(HEAVY) & set(out)


def lint(tree):
    """Run the import contracts on a copy of the packages."""
    script = Path(sys.executable).parent / "lint-imports"
    if not script.exists():
        pytest.skip("import-linter is not installed beside this Python")
    paths = os.pathsep.join(str(tree / package.partition("/")[0]) for package in PACKAGES)
    done = subprocess.run(
        [script, "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def tree(tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_import_contracts_hold(tree):
    code, out = lint(tree)
    assert code == 0, out


KERNELS, SDK, SERVICE = PACKAGES
STANDS_ON = "the service stands on the SDK, the SDK on the kernels"


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        (f"{KERNELS}/layout.py", "import lumatile", STANDS_ON),
        (f"{KERNELS}/layout.py", "import lumatile_service", STANDS_ON),
        (f"{SDK}/errors.py", "import lumatile_service", STANDS_ON),
        (f"{KERNELS}/tables.py", "import lumatile_kernels.pyramid", "layers of the kernels"),
        (f"{KERNELS}/host/numba_jit.py", "import lumatile_kernels.cuda.work", "layers of the kernels"),
        (f"{KERNELS}/cuda/work.py", "import lumatile_kernels.decode.png", "layers of the kernels"),
        (f"{KERNELS}/cuda/loans.py", "import lumatile_kernels.selection", "layers of the kernels"),
        (f"{SDK}/errors.py", "import lumatile.content.arrays", "layers of the SDK"),
        (f"{SDK}/content/arrays.py", "import lumatile.format.schema", "layers of the SDK"),
        (f"{SDK}/format/schema.py", "import lumatile.storage.direct_file", "layers of the SDK"),
        (f"{SDK}/storage/direct_file.py", "import lumatile.write.segment", "layers of the SDK"),
        (f"{SDK}/read/frame.py", "import lumatile.write.segment", "layers of the SDK"),
        (f"{SDK}/sink/queue.py", "import lumatile.log.timelines", "layers of the SDK"),
        (f"{SDK}/log/timelines.py", "import lumatile.wire.decoding", "layers of the SDK"),
        (f"{SDK}/wire/decoding.py", "import lumatile.spool.spool", "layers of the SDK"),
        (f"{SDK}/spool/record.py", "import lumatile.delivery.window", "layers of the SDK"),
        (f"{SERVICE}/embedded/contexts.py", "import lumatile_service.metrics.histogram", "layers of the service"),
        (f"{SERVICE}/ingest/tokens.py", "import lumatile_service.cluster.placement", "layers of the service"),
        (f"{SERVICE}/export/ply.py", "import lumatile_service.batch.plan", "layers of the service"),
        (f"{SERVICE}/batch/plan.py", "import lumatile_service.cli.output", "layers of the service"),
        (f"{SDK}/log/timelines.py", "def late():\n    import lumatile.log.recording", "no import circles"),
        (f"{KERNELS}/host/numba_jit.py", "import lumatile_kernels.host.numba_backend", "no import circles"),
        (f"{SERVICE}/batch/log_call.py", "import lumatile_service.batch.run", "no import circles"),
        (f"{KERNELS}/layout.py", "import pyarrow", "kernels are arrays only"),
        (f"{SDK}/errors.py", "import ray", "the SDK has no heavy packages"),
        (f"{SDK}/errors.py", "import numba", "the SDK has no heavy packages"),
        (f"{SDK}/errors.py", "import benchmarks", "nothing imports tests, benchmarks, deploy, examples or tools"),
        (f"{SERVICE}/endpoint.py", "import tests", "nothing imports tests, benchmarks, deploy, examples or tools"),
    ],
)
def test_a_broken_import_contract_fails_the_check(tree, file, line, contract):
    with (tree / file).open("a") as source:
        source.write(f"\n{line}\n")
    code, out = lint(tree)
    assert code == 1, out
    assert re.search(rf"^{contract} BROKEN", out, re.MULTILINE), out


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_that_no_layer_lists_fails_the_check(tree, package):
    (tree / package / "intruder.py").write_text("")
    code, out = lint(tree)
    assert code == 1, out
    assert "intruder" in out
