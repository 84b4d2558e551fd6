"""The storage of a store's bytes: local directories and buckets."""
