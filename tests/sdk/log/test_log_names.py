"""What `import lumatile` shows, and what it costs."""

import inspect
import subprocess
import sys

import pytest

import lumatile as lt

HEAVY = ("ray", "cupy", "numba", "nvidia", "pyarrow", "typer", "rich", "imagecodecs", "simplejpeg", "lumatile_service")


def test_all_is_what_is_visible():
    names = {name for name in dir(lt) if not name.startswith("_")} | {"__version__"}
    visible = {name for name in names if not inspect.ismodule(getattr(lt, name))}
    assert visible == set(lt.__all__)
    assert list(lt.__all__) == sorted(lt.__all__)


@pytest.mark.parametrize("name", lt.__all__)
def test_every_public_name_has_a_docstring(name):
    assert inspect.getdoc(getattr(lt, name))


@pytest.mark.parametrize("name", [n for n in lt.__all__ if n.startswith("log_") or "recording=" in n])
def test_the_docstring_of_a_log_function_names_every_parameter(name):
    doc = inspect.getdoc(getattr(lt, name))
    parameters = inspect.signature(getattr(lt, name)).parameters
    assert [p for p in parameters if f"\n    {p}: " not in doc] == []


def test_logging_points_and_images_loads_no_heavy_package():
    code = """
import sys, numpy as np, lumatile as lt
lt.init("light", sink="memory://light")
lt.log_points("p", [[0, 0]], colors=[1.0, 0, 0])
lt.log_image("i", np.zeros((2, 2), np.uint8))
lt.log_annotation_context("/", (1, "a", (1.0, 0, 0)))
print(*sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "lumatile" in out
    assert [module for module in out if module.partition(".")[0] in HEAVY] == []
