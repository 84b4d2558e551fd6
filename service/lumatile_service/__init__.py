"""The processing side of Lumatile: pipeline, embedded sink, command line."""
