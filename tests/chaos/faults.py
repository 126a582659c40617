"""The faults: what is done to a server, or to the way to it, and undone again."""

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from chaos.proxy import Proxy


@dataclass
class Target:
    """A real server, the proxy before it, and the module that knows this kind of server."""

    module: Any
    server: Any
    url: str
    proxy: Proxy
    held: ExitStack = field(default_factory=ExitStack)


Deed = Callable[[Target], None]


@dataclass(frozen=True)
class Fault:
    """One fault. While it lasts, for `seconds`, an outage leaves nothing to answer from; None: requests may fail."""

    name: str
    begin: Deed
    end: Deed
    seconds: float
    outage: bool | None = True


def nothing(_target: Target) -> None:
    """Do nothing."""


def _kill(target: Target) -> None:
    target.server.process.kill()
    target.server.process.wait(10)


def _cut_often(target: Target) -> None:
    """Cut all connections while many of them wait in mid-transaction for an answer that is on its way."""
    for _ in range(5):
        target.proxy.say("delay 0.03")
        time.sleep(random.uniform(0.1, 0.2))  # noqa: S311
        target.proxy.say("cut")
        target.proxy.say("delay 0")
        time.sleep(0.2)


def _fill(target: Target) -> None:
    """Take every connection that there is, those of the service too."""
    target.proxy.say("refuse")
    target.held.enter_context(target.module.filled(target.url))
    target.proxy.say("pass")


def _say(words: str) -> Deed:
    return lambda target: target.proxy.say(words)


FAULTS = [
    Fault("none", nothing, nothing, 3, outage=False),
    Fault("killed (kill -9)", _kill, lambda target: target.server.bring_back(), 2.5),
    Fault("frozen (SIGSTOP)", lambda target: target.server.freeze(), lambda target: target.server.thaw(), 5),
    Fault("cut in mid-transaction", _cut_often, nothing, 0, outage=None),
    Fault("connections refused", _say("refuse"), _say("pass"), 2.5),
    Fault("slow (0.08 s a round trip)", _say("delay 0.04"), _say("delay 0"), 2.5, outage=False),
    Fault("crawling (3 s a round trip)", _say("delay 1.5"), _say("delay 0"), 5),
    Fault("restarted", lambda target: target.server.stop(), lambda target: target.server.bring_back(), 0, outage=None),
    Fault("out of connections", _fill, lambda target: target.held.close(), 2.5),
]

# What happens again and again in a compressed hour: what begins it, what ends it.
SHORT: list[tuple[Deed, Deed]] = [
    (_say("cut"), nothing),
    (_say("refuse"), _say("pass")),
    (_say("delay 0.3"), _say("delay 0")),
    (lambda target: target.server.freeze(), lambda target: target.server.thaw()),
]
