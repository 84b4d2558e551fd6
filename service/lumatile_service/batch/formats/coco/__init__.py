"""COCO datasets."""
