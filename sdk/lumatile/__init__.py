"""Lumatile: log images, depth, segmentation and points; read them back as render-ready tiles."""
