"""The CUDA backend: kernels in `kernels/*.cu`, compiled by NVRTC on first use and run through CuPy.

Only `cuda_device.py` and `compile.py` import cupy, and only when a device or a compilation is requested.
"""
