"""The logging API: recordings, the log and time functions, and the current recording."""
