"""The embedded sink: it turns logged values into tiles in the process that logs, and writes them to a store."""
