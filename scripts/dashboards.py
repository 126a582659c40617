"""Writes the dashboards of a rendered service as JSON for Grafana: `make dashboards`."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import logs, loki, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableRefresh,
)

FOLDER = Path(__file__).resolve().parents[1] / "template" / "monitoring" / "chassis" / "dashboards"
TAG = "service"
PROMETHEUS, LOKI = DataSourceRef("prometheus", "prometheus"), DataSourceRef("loki", "loki")
REQUESTS = 'http_server_request_duration_seconds_count{job="$job"}'
FAILED = 'http_server_request_duration_seconds_count{job="$job", http_response_status_code=~"5.."}'
BUCKETS = 'http_server_request_duration_seconds_bucket{job="$job"}'
DATABASE = 'db_client_operation_duration_seconds_{part}{{job="$job"{more}}}'
CALLS = 'http_client_request_duration_seconds_{part}{{job="$job"{more}}}'
LOOKUPS, HITS = 'cache_lookups_total{job="$job"}', 'cache_lookups_total{job="$job", result="hit"}'
USED = 'db_client_connection_count{job="$job", db_client_connection_state="used"}'
SHARE = f"sum without (db_client_connection_state) ({USED}) / db_client_connection_max"


@dataclass(frozen=True)
class Panel:
    """A panel: its queries with the legend of each, in a unit of Grafana. A `number` shows the latest value only."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    is_number: bool = False
    has_routes: bool = False  # each series is a route, and links to its log entries
    has_exemplars: bool = False  # the points are requests, and link to their log entries


def number(title: str, query: str, unit: str = "short") -> Panel:
    return Panel(title, {"": query}, unit, is_number=True)


def rate(series: str, by: str) -> str:
    """Return the query for the events per second."""
    return f"sum by ({by}) (rate({series}[$__rate_interval]))"


def quantile(share: float, buckets: str, by: str = "") -> str:
    """Return the query for a quantile of a histogram."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({buckets}[$__rate_interval])))"


Rows = dict[str, list[Panel]]

OVERVIEW: Rows = {
    "Service level": [
        number(
            "Availability: error budget left",
            'slo:error_budget_left:ratio{job="$job", slo="availability"}',
            "percentunit",
        ),
        number("Latency: error budget left", 'slo:error_budget_left:ratio{job="$job", slo="latency"}', "percentunit"),
        number("Replicas that are ready", 'sum(health_ready{job="$job"})'),
        number("Alerts", 'count(ALERTS{alertstate="firing"}) or vector(0)'),
        Panel("Error budget left", {"{{slo}}": 'slo:error_budget_left:ratio{job="$job"}'}, "percentunit"),
        Panel("Burn rate (1: the budget lasts exactly)", {"{{slo}}": 'slo:burn_rate:ratio_rate1h{job="$job"}'}),
    ],
    "Requests": [
        Panel("Requests by route", {"{{http_route}}": rate(REQUESTS, "http_route")}, "reqps", has_routes=True),
        Panel("5xx by route", {"{{http_route}}": rate(FAILED, "http_route")}, "reqps", has_routes=True),
        Panel(
            "Duration by route, 95th percentile",
            {"{{http_route}}": quantile(0.95, BUCKETS, "http_route")},
            "s",
            has_routes=True,
        ),
        Panel(
            "Duration of all requests",
            {f"p{share * 100:g}": quantile(share, BUCKETS) for share in (0.5, 0.95, 0.99)},
            "s",
            has_exemplars=True,
        ),
        Panel("Statuses", {"{{http_response_status_code}}": rate(REQUESTS, "http_response_status_code")}, "reqps"),
        Panel("Errors", {"{{error_type}}": rate(FAILED, "error_type")}, "reqps"),
    ],
    "Saturation": [
        Panel("Requests in progress", {"{{instance}}": 'http_server_active_requests{job="$job"}'}),
        Panel(
            "Share in use",
            {
                "threads {{instance}}": 'server_threads_busy{job="$job"} / server_threads_max',
                "database connections {{instance}}": SHARE,
                "client connections {{instance}}": (
                    'sum without (state) (http_server_connection_count{job="$job"}) / http_server_connection_max'
                ),
                "file descriptors {{instance}}": 'process_open_fds{job="$job"} / process_max_fds',
            },
            "percentunit",
        ),
        Panel("Event loop lag", {"{{instance}}": 'event_loop_lag_seconds{job="$job"}'}, "s"),
    ],
}
DEPENDENCIES: Rows = {
    "Health checks": [
        Panel("Passed (1) or failed (0)", {"{{check}} {{instance}}": 'health_check:passed{job="$job"}'}),
        Panel("Latency", {"{{check}} {{instance}}": 'health_check_latency_seconds{job="$job"}'}, "s"),
        Panel(
            "Open circuits", {"{{dependency}} {{instance}}": '1 - circuit_breaker_state{job="$job", state="closed"}'}
        ),
        Panel("Retries", {"{{operation}}": rate('retries_total{job="$job"}', "operation")}, "ops"),
    ],
    "Databases": [
        Panel(
            "Operations",
            {
                "{{db_system_name}} {{db_operation_name}}": rate(
                    DATABASE.format(part="count", more=""), "db_system_name, db_operation_name"
                )
            },
            "ops",
        ),
        Panel(
            "Duration, 95th percentile",
            {
                "{{db_system_name}} {{db_operation_name}}": quantile(
                    0.95, DATABASE.format(part="bucket", more=""), "db_system_name, db_operation_name"
                )
            },
            "s",
        ),
        Panel(
            "Errors",
            {
                "{{db_system_name}} {{error_type}}": rate(
                    DATABASE.format(part="count", more=', error_type!=""'), "db_system_name, error_type"
                )
            },
            "ops",
        ),
        Panel(
            "Connections",
            {
                "{{db_client_connection_state}} {{instance}}": 'db_client_connection_count{job="$job"}',
                "limit {{instance}}": 'db_client_connection_max{job="$job"}',
            },
        ),
        Panel("Age of the newest backup", {"": 'time() - (max(backup_newest_timestamp_seconds{job="$job"}) > 0)'}, "s"),
        Panel("Free disk space", {"{{instance}}": 'database_disk_free_bytes{job="$job"}'}, "bytes"),
    ],
    "Cache and rate limits": [
        Panel(
            "Cache hits",
            {"": f"sum(rate({HITS}[$__rate_interval])) / sum(rate({LOOKUPS}[$__rate_interval]))"},
            "percentunit",
        ),
        Panel(
            "Rate limits",
            {
                "rejected": 'sum(rate(rate_limit_rejected_total{job="$job"}[$__rate_interval]))',
                "not enforced": 'sum(rate(rate_limit_failed_open_total{job="$job"}[$__rate_interval]))',
            },
            "reqps",
        ),
    ],
    "Other services": [
        Panel("Calls", {"{{server_address}}": rate(CALLS.format(part="count", more=""), "server_address")}, "reqps"),
        Panel(
            "Duration, 95th percentile",
            {"{{server_address}}": quantile(0.95, CALLS.format(part="bucket", more=""), "server_address")},
            "s",
        ),
        Panel(
            "Errors",
            {
                "{{server_address}} {{error_type}}": rate(
                    CALLS.format(part="count", more=', error_type!=""'), "server_address, error_type"
                )
            },
            "reqps",
        ),
    ],
}
PROCESS: Rows = {
    "Process": [
        number("Uptime of the youngest replica", 'time() - max(process_start_time_seconds{job="$job"})', "s"),
        Panel("Versions", {"{{service_version}}": 'count by (service_version) (target_info{job="$job"})'}),
        Panel("Memory", {"{{instance}}": 'process_resident_memory_bytes{job="$job"}'}, "bytes"),
        Panel("CPU (1: one core)", {"{{instance}}": 'rate(process_cpu_seconds_total{job="$job"}[$__rate_interval])'}),
        Panel("Event loop lag", {"{{instance}}": 'event_loop_lag_seconds{job="$job"}'}, "s"),
        Panel(
            "Threads that run handlers",
            {
                "busy {{instance}}": 'server_threads_busy{job="$job"}',
                "waiting {{instance}}": 'server_threads_waiting{job="$job"}',
                "limit {{instance}}": 'server_threads_max{job="$job"}',
            },
        ),
        Panel(
            "Garbage collections",
            {"generation {{generation}}": rate('python_gc_collections_total{job="$job"}', "generation")},
            "ops",
        ),
        Panel(
            "File descriptors",
            {"open {{instance}}": 'process_open_fds{job="$job"}', "limit {{instance}}": 'process_max_fds{job="$job"}'},
        ),
        Panel("Client connections", {"{{state}} {{instance}}": 'http_server_connection_count{job="$job"}'}),
    ],
}
DASHBOARDS = {"overview": OVERVIEW, "dependencies": DEPENDENCIES, "process": PROCESS}


def explore(query: str) -> str:
    """Return the address of a query for Loki in Explore."""
    escaped = query.replace('"', '\\"')
    pane = f'{{"a":{{"datasource":"loki","queries":[{{"refId":"A","expr":"{escaped}"}}]}}}}'
    # Grafana replaces its variables, so they stay as they are.
    return "/explore?schemaVersion=1&panes=" + quote(pane, safe="${}:_.")


def _targets(panel: Panel) -> list[Builder[Dataquery]]:
    targets: list[Builder[Dataquery]] = []
    for number_, (legend, query) in enumerate(panel.queries.items()):
        target = prometheus.Dataquery().ref_id(chr(ord("A") + number_)).expr(query).datasource(PROMETHEUS)
        target = target.legend_format(legend).exemplar(panel.has_exemplars)
        targets.append(target.instant() if panel.is_number else target.range())
    return targets


def _panel(panel: Panel) -> stat.Panel | timeseries.Panel:
    if panel.is_number:
        return (
            stat.Panel()
            .title(panel.title)
            .datasource(PROMETHEUS)
            .unit(panel.unit)
            .targets(_targets(panel))
            .height(4)
            .span(6)
        )
    built = timeseries.Panel().title(panel.title).datasource(PROMETHEUS).unit(panel.unit).targets(_targets(panel))
    legend = common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).show_legend(True)
    built = built.legend(legend.placement(common.LegendPlacement.BOTTOM)).min(0).fill_opacity(8).height(8).span(8)
    if panel.has_routes:
        url = explore('{container="app"} | json | http_route=`${__field.labels.http_route}`')
        built = built.data_links([build.DashboardLink("Log entries of this route").url(url)])
    return built


def dashboard(name: str, rows: Rows) -> build.Dashboard:
    """Return a dashboard with a variable for the service, links to the others, and a mark for each new version."""
    built = (
        build.Dashboard(name.capitalize())
        .uid(f"chassis-{name}")
        .tags([TAG])
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .readonly()
        .link(
            build.DashboardLink("Dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
            .include_vars(True)
        )
        .link(build.DashboardLink("Logs").type(DashboardLinkType.LINK).url(explore('{container="app"} | json')))
        .with_variable(
            build.QueryVariable("job")
            .label("Service")
            .datasource(PROMETHEUS)
            .query("label_values(http_server_active_requests, job)")
            .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        )
        .annotation(
            build.AnnotationQuery()
            .name("New versions")
            .datasource(PROMETHEUS)
            .enable(True)
            .icon_color("blue")
            .expr(
                'count by (service_version) (target_info{job="$job"}) '
                'unless count by (service_version) (target_info{job="$job"} offset 5m)'
            )
        )
    )
    for title, panels in rows.items():
        built = built.with_row(build.Row(title))
        for panel in panels:
            built = built.with_panel(_panel(panel))
    if name == "overview":
        errors = loki.Dataquery().ref_id("A").expr('{container="app", level=~"error|critical"}').datasource(LOKI)
        built = built.with_row(build.Row("Logs"))
        built = built.with_panel(logs.Panel().title("Errors").datasource(LOKI).with_target(errors).height(8).span(24))
    return built


def queries() -> list[str]:
    """Return the query of each panel."""
    panels = [panel for rows in DASHBOARDS.values() for found in rows.values() for panel in found]
    return [query for panel in panels for query in panel.queries.values()]


def files() -> dict[str, str]:
    """Return the text of each file."""
    return {
        f"{name}.json": JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(dashboard(name, rows).build())
        + "\n"
        for name, rows in DASHBOARDS.items()
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        FOLDER.joinpath(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
