"""What a service counts and measures, and how that is served."""
