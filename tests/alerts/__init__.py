"""Faults are injected into a running service, and a real Prometheus and Alertmanager tell which alerts fire."""
