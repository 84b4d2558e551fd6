"""Decoders of image files: JPEG and PNG, their headers and their orientation."""
