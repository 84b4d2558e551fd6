"""Sinks take logged values: the protocol, the table of URL schemes, and the queue in front of a sink."""
