"""The clients in the load test of `make load`. https://docs.locust.io describes how to write more."""

from uuid import uuid4

from locust import HttpUser, between, task


class Reader(HttpUser):
    """Only lists notes, so `PROFILE=read` can run this class in production. It keeps its connection."""

    wait_time = between(0.1, 0.5)

    @task(7)
    def list_notes(self) -> None:
        # The summary has one line for each name, whatever the query.
        self.client.get("/api/v1/notes?limit=20", name="/api/v1/notes")


class Writer(Reader):
    """Lists notes, and creates a note with one of eight requests. It keeps its connection."""

    weight = 2

    @task(1)
    def create_note(self) -> None:
        self.client.post("/api/v1/notes", json={"title": f"Load test {uuid4()}"})


class NewConnections(Writer):
    """Sends the same requests as `Writer`, and opens a connection for each of them."""

    def on_start(self) -> None:
        self.client.headers["Connection"] = "close"
