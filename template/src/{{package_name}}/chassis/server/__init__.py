"""Servers that drain before they stop, so that no request is lost on a deployment."""
