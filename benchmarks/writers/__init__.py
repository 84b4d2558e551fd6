"""Ways to bring frames to disk: Lumatile, a raw write, and what else a user would take."""
