"""The backends that run on CPUs: numpy, which is the specification, and numba."""
