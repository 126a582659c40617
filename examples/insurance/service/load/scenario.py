"""The behaviour of one client in the load test of `make load`. Run `python -m insurance import` first."""

from locust import HttpUser, between, task


class Reader(HttpUser):
    """Reads policies and claims, and the reserve with every tenth request."""

    wait_time = between(0.1, 0.5)

    @task(6)
    def read_policy(self) -> None:
        self.client.get("/api/v1/policies/P-1001", name="/api/v1/policies/{number}")

    @task(3)
    def list_claims(self) -> None:
        self.client.get("/api/v1/claims?policy=P-1002", name="/api/v1/claims")

    @task(1)
    def read_reserves(self) -> None:
        self.client.get("/api/v1/reserves")
