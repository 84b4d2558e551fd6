"""The service on Ray: its actors, their placement and its processes."""
