"""Messages between an SDK process and a service: encoding, decoding, acknowledgements and credentials."""
