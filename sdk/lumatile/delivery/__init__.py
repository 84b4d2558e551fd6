"""Delivery of logged values to a service, over Arrow Flight and by way of the spool."""
