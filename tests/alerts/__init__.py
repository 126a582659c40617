"""Injects faults into a running service, and reads the alerts that fire from a real Prometheus and Alertmanager."""
