"""What a server does with the values it receives: Arrow Flight, tokens and the recordings they go to."""
