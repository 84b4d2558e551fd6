"""The spool: a queue of encoded messages on local disk for values that a service cannot take yet."""
