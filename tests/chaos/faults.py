"""The faults: each is applied to a server or to the network in front of it, and removed again."""

import random
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import redis

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
# The effect of a fault: unnoticed by clients, some failed requests, or none that succeeds. Without its cache a service
# is degraded and still answers.
Effect = Literal["unnoticed", "some", "unready", "degraded"]


@dataclass(frozen=True)
class Fault:
    """One fault of a server. It lasts `seconds`; the limits for health report and recovery count from its ends.

    `messages` are those that must arrive nevertheless, and `circuits` names the health checks whose circuit must open.
    """

    name: str
    begin: Deed
    end: Deed
    seconds: float
    effect: Effect = "unready"
    of: Literal["database", "cache", "mail", "webhooks", "keys"] = "database"
    report_seconds: float = 2.0
    recovery_seconds: float = 5.0
    messages: Literal["", "notifications", "websockets"] = ""
    circuits: tuple[str, ...] = ()


def nothing(_target: Target) -> None:
    """Do nothing."""


def _kill(target: Target) -> None:
    target.server.process.kill()
    target.server.process.wait(10)


def _cut_often(target: Target) -> None:
    """Cut all connections while many of them wait for a response in the middle of a transaction."""
    for _ in range(5):
        target.proxy.say("delay 0.03")
        time.sleep(random.uniform(0.1, 0.2))  # noqa: S311
        target.proxy.say("cut")
        target.proxy.say("delay 0")
        time.sleep(0.2)


def _fill(target: Target) -> None:
    """Use up all connections of the server, including those of the service."""
    target.proxy.say("refuse")
    target.held.enter_context(target.module.filled(target.url))
    target.proxy.say("pass")


def _say(words: str) -> Deed:
    return lambda target: target.proxy.say(words)


def _fill_redis(target: Target) -> None:
    """Use up all client slots of Redis, including those of the service."""
    target.module.connect(target.url).config_set("maxclients", 10)
    target.proxy.say("refuse")
    with suppress(redis.RedisError):
        while True:
            client = redis.Redis.from_url(target.url, single_connection_client=True, socket_timeout=5)
            target.held.callback(client.close)
            client.ping()
    target.proxy.say("pass")


def _bring_back(target: Target) -> None:
    target.server.bring_back()


def _freeze(target: Target) -> None:
    target.server.freeze()


def _thaw(target: Target) -> None:
    target.server.thaw()


def _stop(target: Target) -> None:
    target.server.stop()


def _release(target: Target) -> None:
    target.held.close()


def _hang(target: Target) -> None:
    """Accept connections, and respond to none."""
    target.proxy.say("delay 3600")


def _pass_again(target: Target) -> None:
    target.proxy.say("delay 0")
    target.proxy.say("cut")


def _fail(target: Target) -> None:
    target.server.status = 500


def _succeed(target: Target) -> None:
    target.server.status = 200


OF_DATABASE = [
    Fault("none", nothing, nothing, 3, "unnoticed"),
    Fault("database killed (kill -9)", _kill, _bring_back, 2.5),
    Fault("database frozen (SIGSTOP)", _freeze, _thaw, 5),
    Fault("database cut in mid-transaction", _cut_often, nothing, 0, "some"),
    Fault("database refuses connections", _say("refuse"), _say("pass"), 2.5),
    Fault("database slow (0.08 s a round trip)", _say("delay 0.04"), _say("delay 0"), 2.5, "unnoticed"),
    # Longer than the service waits for a response (3 s). With equal times the result would be random.
    Fault("database crawls (4 s a round trip)", _say("delay 2"), _say("delay 0"), 5),
    Fault("database restarted", _stop, _bring_back, 0, "some"),
    Fault("database out of connections", _fill, _release, 2.5),
]
OF_CACHE = [
    Fault("Redis killed (kill -9)", _kill, _bring_back, 2.5, "degraded", "cache"),
    Fault("Redis frozen (SIGSTOP)", _freeze, _thaw, 2.5, "degraded", "cache"),
    Fault("Redis cut", _cut_often, nothing, 0, "unnoticed", "cache"),
    Fault("Redis refuses connections", _say("refuse"), _say("pass"), 2.5, "degraded", "cache"),
    Fault("Redis crawls (3 s a round trip)", _say("delay 1.5"), _say("delay 0"), 2.5, "degraded", "cache"),
    Fault("Redis restarted", _stop, _bring_back, 0, "unnoticed", "cache"),
    Fault("Redis out of connections", _fill_redis, _release, 2.5, "degraded", "cache"),
]


def _of_channels(name: str, begin: Deed, end: Deed, of: Literal["mail", "webhooks"], *channels: str) -> Fault:
    """Return a fault of channels. It lasts until their circuits are open, which then stay open for 30 seconds."""
    circuits = tuple(f"notifications_{channel}" for channel in channels)
    return Fault(name, begin, end, 8, "degraded", of, 3.5, 40, "notifications", circuits)


def _of_keys(name: str, begin: Deed, end: Deed) -> Fault:
    """Return a fault of the identity provider, whose keys are fetched every 10 seconds with a timeout of 5."""
    return Fault(name, begin, end, 18, "degraded", "keys", 17, 12)


OF_SERVICES = [
    _of_channels("mail server hangs", _hang, _pass_again, "mail", "email"),
    _of_channels("webhooks respond with 500", _fail, _succeed, "webhooks", "discord", "slack", "sms"),
    _of_channels("webhooks refuse connections", _say("refuse"), _say("pass"), "webhooks", "discord", "slack", "sms"),
    _of_keys("key set refuses connections", _say("refuse"), _say("pass")),
    _of_keys("key set hangs", _hang, _pass_again),
    _of_keys("key set responds with 500", _fail, _succeed),
]
OF_WEBSOCKETS = [
    Fault(
        "Redis killed, WebSockets of two replicas", _kill, _bring_back, 2.5, "degraded", "cache", messages="websockets"
    ),
]


def faults_of(stack: str, table: str) -> list[Fault]:
    """Return the faults of a named stack that belong to one table."""
    has_redis = stack.endswith("-redis")
    if table == "faults":
        return OF_DATABASE + (OF_CACHE if has_redis else [])
    return (OF_SERVICES if has_redis else []) + (OF_WEBSOCKETS if stack == "fastapi-postgresql-redis" else [])


# The short faults of a compressed hour: how each begins and ends.
SHORT: list[tuple[Deed, Deed]] = [
    (_say("cut"), nothing),
    (_say("refuse"), _say("pass")),
    (_say("delay 0.3"), _say("delay 0")),
    (_freeze, _thaw),
]
