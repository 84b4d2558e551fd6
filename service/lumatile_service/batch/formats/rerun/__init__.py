"""Rerun recordings, .rrd files."""
