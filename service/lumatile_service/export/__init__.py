"""Recordings into files of other tools."""
