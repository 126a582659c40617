"""The behaviour of one client in the load test of `make load`. https://docs.locust.io describes how to write more."""

from locust import HttpUser, between, task


class Client(HttpUser):
    """Creates a plan, and then reads its schedule."""

    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        plan = {"athlete": "Load", "goal": "Test", "starts_on": "2026-01-05", "ends_on": "2026-03-29"}
        self.path = self.client.post("/api/v1/plans", json=plan).headers["location"]

    @task
    def read_schedule(self) -> None:
        # The summary has one line for each name, whatever the id.
        self.client.get(f"{self.path}/schedule", name="/api/v1/plans/{plan_id}/schedule")
