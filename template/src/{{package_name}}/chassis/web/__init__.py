"""Adapters: what applies the service's lists to a framework's application."""
