"""Logs: configuration, the access log, redaction, and the sink that writes them."""
