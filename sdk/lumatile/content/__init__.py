"""Checks of what is passed to a log call; each module turns one kind of argument into arrays."""
