"""The behaviour of one client in the load test of `make load`. https://docs.locust.io describes how to write more."""

from locust import HttpUser, between, task

UNKNOWN = 2**53 - 1


class Reader(HttpUser):
    """Requests a plan that does not exist, because production may have no plan yet."""

    wait_time = between(0.1, 0.5)

    @task
    def read_unknown_plan(self) -> None:
        with self.client.get(f"/api/v1/plans/{UNKNOWN}", name="/api/v1/plans/{plan_id}", catch_response=True) as found:
            if found.status_code == 404:
                found.success()


class Planner(HttpUser):
    """Creates a plan, and then reads its schedule."""

    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        plan = {"athlete": "Load", "goal": "Test", "starts_on": "2026-01-05", "ends_on": "2026-03-29"}
        self.path = self.client.post("/api/v1/plans", json=plan).headers["location"]

    @task
    def read_schedule(self) -> None:
        # The summary has one line for each name, whatever the id.
        self.client.get(f"{self.path}/schedule", name="/api/v1/plans/{plan_id}/schedule")
