"""Pictures and summaries of what is stored, for people."""
