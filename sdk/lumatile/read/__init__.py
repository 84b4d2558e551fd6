"""Reading a store: recordings, frames, queries and verification."""
