"""Pictures and summaries of stored recordings, for people."""
