"""The machinery of the benchmarks: real frames, turns with warm memory, tables, and a description of the machine."""
