"""`lumatile doctor`: which parts of Lumatile this machine can run."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.markup import escape

from lumatile_kernels import Backend, BackendUnavailableError, select_backend
from lumatile_kernels.decode.errors import DecoderUnavailableError
from lumatile_kernels.threads import usable_cores
from lumatile_service.cli.output import Json, console, print_json, size, table

BACKENDS = ("numpy", "numba", "cuda")
PACKAGES = (
    "numpy",
    "pyarrow",
    "crc32c",
    "numba",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "nvidia-dali-cuda130",
    "nvidia-dali-cuda120",
    "imagecodecs",
    "simplejpeg",
    "obstore",
    "typer",
    "rich",
    "ray",
    "duckdb",
    "polars",
)


def doctor(*, as_json: Json = False) -> None:
    """Show what this machine can run, and why it cannot run the rest.

    Shows backends, decoders, memory, versions, and whether Ray asks for a token.

    Exits with 1 if something that logging or reading needs is missing.
    """
    report = examine()
    if as_json:
        print_json(report)
    else:
        _show(report)
    raise typer.Exit(1 if report["problems"] else 0)


def examine() -> dict[str, Any]:
    """Return the report, as `--json` prints it."""
    backends = [_backend(name) for name in BACKENDS]
    decoders = _decoders()
    problems = [f"backend {entry['name']}: {entry['reason']}" for entry in backends if entry["broken"]]
    if not any(d["available"] for d in decoders if d["format"] == "jpeg"):
        problems.append("no JPEG decoder: JPEG files become error rows (pip install 'lumatile[local]')")
    if not any(d["available"] for d in decoders if d["format"] == "png"):
        problems.append("no PNG decoder: PNG files become error rows (pip install 'lumatile[local]')")
    if _crc32c() != "hardware":
        problems.append("the processor has no CRC32C instruction that crc32c knows: checksums are slow")
    return {
        "lumatile": metadata.version("lumatile"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": {"cores": usable_cores(), **_memory()},
        "backends": backends,
        "backend": select_backend("auto").name,
        "decoders": decoders,
        "checksums": f"crc32c in {_crc32c()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "notes": _notes(),
        "problems": problems,
    }


def _notes() -> list[str]:
    """Return what the user should look at although everything runs."""
    note = None if _version("ray") is None else _open_ray()
    return [] if note is None else [note]


def _open_ray() -> str | None:
    """Return a warning if Ray, by its own rules, asks for no token: then it runs whatever code it is sent."""
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is not None and mode.lower() != "token":
        why = f"(RAY_AUTH_MODE={mode}): everyone who can reach its ports can run code; set RAY_AUTH_MODE=token"
        return f"Ray's token authentication is off {why}"
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if mode is None and not given and not (Path.home() / ".ray" / "auth_token").exists():
        return (
            "Ray's token authentication is off for a Ray that is joined from here: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH (one that `lumatile serve` starts has a token of its own)"
        )
    return None


def _backend(name: str) -> dict[str, Any]:
    """Return whether a backend runs: it must make the same tiles as numpy."""
    try:
        tiles = _tiles(select_backend(name))
    except BackendUnavailableError as e:
        return {"name": name, "available": False, "broken": False, "reason": str(e)}
    except Exception as e:  # noqa: BLE001 - a broken installation may raise anything, and the report says what
        return {"name": name, "available": False, "broken": True, "reason": f"it does not run: {e!r}"}
    if tiles != _tiles(select_backend("numpy")):
        return {"name": name, "available": False, "broken": True, "reason": "its tiles differ from those of numpy"}
    return {"name": name, "available": True, "broken": False, "reason": None}


def _tiles(backend: Backend) -> bytes:
    image = np.arange(300 * 3, dtype=np.uint8).reshape(1, 300, 3)
    return b"".join(block.payload.tobytes() for block in backend.image(image))


def _decoders() -> list[dict[str, Any]]:
    from lumatile_kernels.decode.jpeg import DaliDecoder, TurboDecoder

    def imagecodecs() -> str:
        import imagecodecs

        return f"imagecodecs {imagecodecs.__version__}"

    found = []
    makers: tuple[tuple[str, str, Callable[[], str]], ...] = (
        ("jpeg", "dali on a GPU", lambda: DaliDecoder("mixed").name),
        ("jpeg", "dali", lambda: DaliDecoder().name),
        ("jpeg", "turbo", lambda: TurboDecoder().name),
        ("png", "imagecodecs", imagecodecs),
    )
    for image_format, name, make in makers:
        entry = {"format": image_format, "name": name, "available": True, "version": None, "reason": None}
        try:
            entry["version"] = make()
        except (DecoderUnavailableError, ImportError) as e:
            entry |= {"available": False, "reason": str(e)}
        found.append(entry)
    return found


def _crc32c() -> str:
    import crc32c

    return "hardware" if crc32c.hardware_based else "software"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _memory() -> dict[str, int | None]:
    """Return the total and the available memory in bytes; None where the system does not say."""
    names = {"memory_total": "SC_PHYS_PAGES", "memory_available": "SC_AVPHYS_PAGES"}
    known = getattr(os, "sysconf_names", {})
    return {
        key: os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") if name in known else None for key, name in names.items()
    }


def _show(report: dict[str, Any]) -> None:
    out = console()
    machine = report["machine"]
    memory = "unknown" if machine["memory_total"] is None else size(machine["memory_total"])
    out.print(f"[bold]lumatile {report['lumatile']}[/], Python {report['python']}, {report['platform']}")
    out.print(f"{machine['cores']} cores, {memory} memory; {report['checksums']}\n")
    rows = table("part", "name", "state", "")
    for entry in report["backends"]:
        chosen = " (auto)" if entry["name"] == report["backend"] else ""
        rows.add_row("backend", entry["name"] + chosen, _state(entry), escape(entry["reason"] or ""))
    for entry in report["decoders"]:
        rows.add_row(entry["format"], entry["name"], _state(entry), escape(entry["reason"] or entry["version"]))
    for name, version in report["packages"].items():
        rows.add_row("package", name, "[green]yes[/]" if version else "[yellow]no[/]", version or "not installed")
    out.print(rows)
    for note in report["notes"]:
        out.print(f"[yellow]note:[/] {escape(note)}")
    for problem in report["problems"]:
        out.print(f"[red]problem:[/] {escape(problem)}")
    if not report["problems"]:
        print(f"\n{sys.executable} has everything that logging and reading need")


def _state(entry: dict[str, Any]) -> str:
    return "[green]yes[/]" if entry["available"] else "[yellow]no[/]"
