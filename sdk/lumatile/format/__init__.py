"""The store format: schemas, file names, and the contents of frames and tiles files."""
