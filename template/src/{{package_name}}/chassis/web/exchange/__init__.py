"""Exchanges: one request's answer, and what is done to it on its way out."""
