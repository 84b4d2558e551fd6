"""The benchmarks: `make bench`, or `python -m benchmarks [name ...] [--quick] [--out DIR]`.

Every figure stands beside another one from the same run, and is compared with it round by round (`rounds.py`), on
real pictures (`frames.py`), with warm memory (`warm_memory.py`).
"""
