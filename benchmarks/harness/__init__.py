"""What the benchmarks share: real frames, turns with warm memory, tables and the description of the machine."""
