"""The CUDA backend: kernels in .cu files, compiled by NVRTC on first use and run through CuPy.

`device.py` and `compile.py` are all that imports cupy, and nothing here does before a device is asked for.
"""
