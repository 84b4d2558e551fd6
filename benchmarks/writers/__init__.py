"""Writers of frames to disk: Lumatile, a raw write, and other libraries."""
