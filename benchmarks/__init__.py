"""The benchmarks: `make bench`, or `python -m benchmarks [name ...] [--quick] [--out DIR]`.

Every figure is compared with another one from the same run, round by round (`harness/rounds.py`), on real pictures
(`harness/frames.py`), with warm memory (`harness/warm_memory.py`).
"""
