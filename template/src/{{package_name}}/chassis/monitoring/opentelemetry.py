"""Traces for OpenTelemetry (https://opentelemetry.io), exported over OTLP.

The SDK is imported only if traces are sent, because it costs memory and start-up time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, field_validator

from ..app import Chassis
from ..health.checks import Check
from ..settings import BaseChassisSettings, ServiceSettings, SettingsError

# One `name=value`, with a percent-encoded value (https://www.w3.org/TR/baggage/).
_PAIR = re.compile(r"\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*=[\x20-\x7e]*")


class Settings(BaseChassisSettings):
    """Traces"""

    otel_exporter_otlp_endpoint: str | None = Field(
        None, description="URL of the collector, such as `http://collector:4318`; nothing is sent without it."
    )
    otel_exporter_otlp_protocol: Literal["http/protobuf", "grpc"] = Field(
        "http/protobuf", description="Protocol of the collector; the usual port is 4318, or 4317 for `grpc`."
    )
    otel_exporter_otlp_headers: SecretStr | None = Field(
        None, description="Headers for the collector, such as `authorization=Bearer%20abc,x-tenant=1`."
    )
    otel_exporter_otlp_timeout: float = Field(
        10.0, gt=0, le=300, description="Seconds that one export may take, including its retries."
    )
    otel_service_name: str | None = Field(None, description="Name of the service in traces; SERVICE_NAME by default.")
    otel_resource_attributes: SecretStr | None = Field(
        None, description="More attributes of the service, such as `service.namespace=shop,cloud.region=eu`."
    )
    otel_traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = Field(
        "parentbased_traceidratio",
        description="Which requests are traced; with `parentbased_`, a caller that sends `traceparent` decides.",
    )
    otel_traces_sampler_arg: float = Field(
        0.1, ge=0, le=1, description="Share of the requests that are traced, from 0 to 1, for a `traceidratio` sampler."
    )
    otel_sdk_disabled: bool = Field(False, description="Send no traces, even if the URL of a collector is set.")

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # the port or an IPv6 address
            is_address = False
        if not is_address or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("is not a URL; use the form http://collector:4318")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("must not contain a password or a query; set OTEL_EXPORTER_OTLP_HEADERS")
        return value.rstrip("/")

    @field_validator("otel_exporter_otlp_headers", "otel_resource_attributes")
    @classmethod
    def _has_pairs(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value else ""
        if not all(_PAIR.fullmatch(item) for item in text.split(",") if item.strip()):
            raise ValueError("is not a list of name=value; separate them by commas, and write a comma as %2C")
        if not all(found.isprintable() for found in pairs(value).values()):
            raise ValueError("must not contain control characters; they would make each export fail")
        return value

    @property
    def sends_traces(self) -> bool:
        return self.otel_exporter_otlp_endpoint is not None and not self.otel_sdk_disabled

    def production_warnings(self) -> list[str]:
        problem = "OTEL_EXPORTER_OTLP_ENDPOINT: is empty, so no traces are sent; set the URL of the collector"
        is_missing = self.otel_exporter_otlp_endpoint is None and not self.otel_sdk_disabled
        return [*super().production_warnings(), *([problem] if is_missing else [])]


def pairs(setting: SecretStr | None) -> dict[str, str]:
    """Parse a valid list of `name=value`."""
    text = setting.get_secret_value() if setting else ""
    split = (item.partition("=") for item in text.split(",") if item.strip())
    return {name.strip(): unquote(value.strip()) for name, _, value in split}


@contextmanager
def sdk_variables() -> Iterator[None]:
    """Report a variable that only the SDK reads, such as `OTEL_BSP_MAX_QUEUE_SIZE`, as an error of the settings.

    Raises:
        SettingsError: The SDK rejects a variable.
    """
    try:
        yield
    except ValueError as error:
        problem = f"a variable of OpenTelemetry's SDK is invalid ({error}); correct or remove the OTEL_ variable"
        raise SettingsError([problem]) from None


def install(chassis: Chassis) -> None:
    """Record a span for each sampled request, and for the calls that it makes, and send them to the collector."""
    settings = chassis.settings_as(Settings)
    if not settings.sends_traces:
        chassis.health.add(Check("traces", _disabled))
        return
    with sdk_variables():  # the SDK reads some of its variables when it is imported
        from .opentelemetry_export import Pipeline
        from .opentelemetry_spans import RequestSampler, RequestTracer, new_provider

        sampler = RequestSampler(settings.otel_traces_sampler, settings.otel_traces_sampler_arg)
        provider = new_provider(settings, chassis.settings_as(ServiceSettings), sampler)
    chassis.provide(provider)
    pipeline = Pipeline(settings, provider)
    chassis.health.add(Check("traces", pipeline.probe, details=pipeline.details))
    chassis.lifespans.append(("traces", pipeline.open))
    tracer = RequestTracer(provider, sampler)
    # This is the first hook, so that spans contain the calls of the other hooks.
    chassis.request_limiters.insert(0, tracer.begin)
    chassis.operation_observers.append(tracer.record)
    chassis.error_reporters.append(tracer.report)
    chassis.request_observers.append(tracer.end)


async def _disabled() -> Mapping[str, Any]:
    return {"enabled": False}
