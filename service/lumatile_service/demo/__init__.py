"""The data that `lumatile demo` logs, and the pictures that it draws of the stored frames."""
