"""Writing a store: segments, commits and merges."""
