"""The counters and measurements of a service, and the HTTP server that shows them."""
