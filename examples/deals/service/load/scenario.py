"""The behaviour of one client in the load test of `make load`. https://docs.locust.io describes how to write more."""

from locust import HttpUser, between, task


class Reader(HttpUser):
    """Lists the best offers."""

    wait_time = between(0.1, 0.5)

    @task
    def list_offers(self) -> None:
        self.client.get("/api/v1/offers?min_score=50", name="/api/v1/offers")
