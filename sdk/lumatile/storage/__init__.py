"""Where the bytes of a store lie: local directories and buckets."""
