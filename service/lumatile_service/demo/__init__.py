"""What `lumatile demo` logs, and the pictures it draws of what is stored then."""
