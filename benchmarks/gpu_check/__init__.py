"""One command for a machine with a GPU: `make gpu-check`, or `python -m benchmarks.gpu_check [--quick] ...`.

Needs numpy and CuPy; PyTorch, numba, DALI, a JPEG encoder and compute-sanitizer are used where they are present. Each
section (`sections.py`) runs in a process of its own, so that none takes the others down; its tables go to
`benchmarks/results/gpu.md` and `gpu.json`. Exit code 0: all is well; 1: something differs or has failed; 2: no device.
"""
