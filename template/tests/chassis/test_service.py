"""The service's own bookkeeping: features, resources, and the order in which they live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ..package import module
from .application import create_app
from .conftest import Logs, Start, settings_for_tests
from .in_process import open_client

FEATURES = module("chassis.features").FEATURES


class Feature:
    """A feature with a resource that notes when it is opened and closed."""

    def __init__(self, name: str, happened: list[str]) -> None:
        self.name, self._happened = name, happened

    def install(self, service: Any) -> None:
        service.provide(self)
        service.lifespans.append((self.name, self.open))

    @contextmanager
    def open(self) -> Iterator[None]:
        self._happened.append(f"{self.name} opened")
        yield
        self._happened.append(f"{self.name} closed")


def test_resources_open_in_order_and_close_in_reverse(logs: Logs) -> None:
    """Each opening is one log line; `service_started` comes after the last, `service_stopped` after the last close."""
    happened: list[str] = []
    features = (*FEATURES, Feature("pool", happened), Feature("client", happened))
    with open_client(create_app(settings_for_tests(), features, {})):
        steps = [line.get("dependency", line["event"]) for line in logs()]
        assert steps[-3:] == ["pool", "client", "service_started"]
    assert happened == ["pool opened", "client opened", "client closed", "pool closed"]
    assert logs()[-1]["event"] == "service_stopped"


def test_what_a_feature_provides_is_found_by_its_type(start: Start) -> None:
    """And what nobody provided is named."""
    services: list[Any] = []
    start(install=services.append)
    (service,) = services
    feature = Feature("pool", [])
    service.provide(feature)
    assert service.get(Feature) is feature
    assert service.get_or_provide(list) is service.get_or_provide(list)
    with pytest.raises(LookupError, match="no set was provided"):
        service.get(set)


def test_an_application_without_the_chassis_is_told_so() -> None:
    """Instead of failing later, somewhere else."""

    class Bare:
        pass

    with pytest.raises(LookupError, match="call install"):
        module("chassis.service").service_of(Bare())
