"""The server of a service: Arrow Flight, tokens, and the recordings that received values go to."""
