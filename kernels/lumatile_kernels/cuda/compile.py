"""The compilation of kernels with NVRTC, which needs neither a GPU nor a driver.

`python -m lumatile_kernels.cuda.compile` compiles every kernel for every supported architecture.
"""

from __future__ import annotations

import sys
import time

from lumatile_kernels.cuda.sources import OPTIONS, all_kernels, source_text
from lumatile_kernels.device import Kernel
from lumatile_kernels.threads import usable_cores

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
"""The compute capabilities, times ten, that `make check` compiles for; NVRTC of CUDA 13 supports none before 7.5."""


class CompileError(RuntimeError):
    """NVRTC has rejected a kernel; the message is its log."""


def compile_kernel(kernel: Kernel, architecture: int, *options: str) -> bytes:
    """Return the machine code of a kernel (a cubin) for an `architecture` (compute capability, times ten).

    If this NVRTC does not know the architecture, return PTX for the newest that it knows, which the driver translates.
    Raises ImportError or CompileError if NVRTC is missing, and CompileError with the log of NVRTC.
    """
    from cupy.cuda import nvrtc

    try:
        known = nvrtc.getSupportedArchs()
    except RuntimeError as e:
        raise CompileError(f"NVRTC cannot be loaded: {e}") from e
    exact = architecture in known
    target = f"sm_{architecture}" if exact else f"compute_{max(a for a in known if a <= max(architecture, known[0]))}"
    defines = [f"-D{name}={value}" for name, value in kernel.defines]
    program = nvrtc.createProgram(source_text(kernel), f"{kernel.files[-1]}", (), ())
    try:
        nvrtc.compileProgram(program, (*OPTIONS, *defines, *options, f"--gpu-architecture={target}"))
        # CuPy treats a cubin as text and removes its last byte, a zero; PTX must end with a zero
        return (bytes(nvrtc.getCUBIN(program)) if exact else bytes(nvrtc.getPTX(program))) + b"\0"
    except nvrtc.NVRTCError as e:
        log = nvrtc.getProgramLog(program).strip("\0\n ")
        raise CompileError(f"{kernel.name} {dict(kernel.defines)} for {target}: {e}: {log}") from e
    finally:
        nvrtc.destroyProgram(program)


def _failure(job: tuple[Kernel, int]) -> str | None:
    """Compile a kernel for an architecture, with warnings as errors; return why it fails, None if it does not."""
    try:
        compile_kernel(*job, "--warning-as-error=all-warnings")
    except CompileError as e:
        return str(e)
    return None


def main() -> int:
    """Compile all kernels, with warnings as errors; return 1 if a kernel does not compile, else 0."""
    start = time.monotonic()
    # it registers a function of the interpreter's end, and a sink may open, and import this module, at that end
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    unique = {(k.files, k.defines): k for k in all_kernels()}.values()  # a text may contain several kernels
    jobs = [(kernel, architecture) for kernel in unique for architecture in ARCHITECTURES]

    with ProcessPoolExecutor(usable_cores(), get_context("spawn")) as pool:  # NVRTC has one lock for all threads
        failures = [failure for failure in pool.map(_failure, jobs, chunksize=4) if failure]
    for failure in failures[:10]:
        print(failure, file=sys.stderr)  # noqa: T201 - a command
    names = ", ".join(f"sm_{a}" for a in ARCHITECTURES)
    print(  # noqa: T201
        f"CUDA: {len(jobs) - len(failures)} of {len(jobs)} kernels compiled ({len(unique)} for each of {names}) "
        f"in {time.monotonic() - start:.0f} s"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
