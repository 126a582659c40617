"""A Prometheus and an Alertmanager that run the configuration of a rendered service, with shorter times."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import private_servers
import yaml

# Each duration in the rules, and the shorter one that replaces it. Thresholds and the order of the windows stay.
DURATIONS = {
    "1m": "6s",
    "2m": "6s",
    "5m": "10s",
    "10m": "10s",
    "15m": "90s",
    "30m": "12s",
    "1h": "16s",
    "2h": "14s",
    "6h": "20s",
    "26h": "12s",
    "1d": "24s",
    "3d": "30s",
    "30d": "1h",
}
# A range, or the time for which a condition holds.
_DURATION = re.compile(r"(?<=\[)\w+(?=\])|(?<=for: )\w+")
_START_SECONDS = 60

Firing = dict[str, float]  # the seconds until each alert fired, by "name severity"


def shorten(text: str) -> str:
    """Replace the durations in rules or in a query.

    Raises:
        KeyError: `DURATIONS` lacks one.
    """
    return _DURATION.sub(lambda found: DURATIONS[found[0]], text)


@dataclass
class Receiver:
    """Receives the notifications of Alertmanager, or rejects them if `is_broken` is set."""

    port: int
    is_broken: bool = False
    notified: list[tuple[str, str]] = field(default_factory=list)  # receiver and alert

    @contextmanager
    def running(self) -> Iterator[None]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receiver.notified += [(body["receiver"], alert["labels"]["alertname"]) for alert in body["alerts"]]
                self.send_response(400 if receiver.is_broken else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()


@dataclass
class Monitor:
    """A running Prometheus and Alertmanager, and their answers."""

    folder: Path
    client: httpx.Client
    prometheus: str
    alertmanager: str
    blackbox: str
    receiver: Receiver
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, name: str, *arguments: str) -> None:
        """Start a program in the folder of the monitoring."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen([name, *arguments], cwd=self.folder, stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait(_START_SECONDS)

    def await_ready(self, url: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                if self.client.get(f"{url}/-/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError((self.folder / "prometheus.log").read_text() + f"\n{url} is not ready")

    def scrape(self, *addresses: str, file: str = "replicas.json") -> None:
        """Set the replicas that Prometheus scrapes, or the targets in another file. It watches the files."""
        part = self.folder / "part"
        part.write_text(json.dumps([{"targets": addresses}]))
        part.rename(self.folder / file)

    def query(self, expression: str, **times: float) -> list[dict[str, Any]]:
        """Return the series of a query, over a range if `start` and `end` are given."""
        kind = "query_range" if times else "query"
        parameters: dict[str, Any] = {"query": expression, **times}
        if times:
            parameters["step"] = 1
        response = self.client.post(f"{self.prometheus}/api/v1/{kind}", data=parameters)
        assert response.status_code == 200, f"{expression}\n{response.text}"
        found: list[dict[str, Any]] = response.json()["data"]["result"]
        return found

    def firing(self, since: float) -> Firing:
        """Return the alerts that have fired since a moment (Unix time), and after how many seconds."""
        found: Firing = {}
        for series in self.query('ALERTS{alertstate="firing"}', start=since, end=time.time()):
            name = f"{series['metric']['alertname']} {series['metric']['severity']}"
            found[name] = min(found.get(name, float("inf")), float(series["values"][0][0]) - since)
        return found

    def active(self) -> set[str]:
        """Return the alerts that are firing or pending now."""
        return {series["metric"]["alertname"] for series in self.query("ALERTS")}

    def inhibited(self) -> set[str]:
        """Return the alerts that Alertmanager holds back now because of another alert, by "name severity"."""
        alerts = self.client.get(f"{self.alertmanager}/api/v2/alerts").json()
        held = [alert["labels"] for alert in alerts if alert["status"]["inhibitedBy"]]
        return {f"{labels['alertname']} {labels['severity']}" for labels in held}


def _documented(monitoring: Path) -> list[Any]:
    """Return the configuration of the blackbox exporter and its scrape job, as the documentation shows them."""
    page = (monitoring.parent / "docs" / "monitoring.md").read_text(encoding="utf-8")
    section = page.partition("\n## Certificate\n")[2].partition("\n## ")[0]
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)]


def _configure(monitoring: Path, folder: Path, scraped: str, alertmanager: str, blackbox: str, receiver: str) -> None:
    """Write the configuration with shorter times."""
    for path in [*monitoring.glob("chassis/*.yml"), *monitoring.glob("rules/*.yml")]:
        copy = folder / path.relative_to(monitoring)
        copy.parent.mkdir(exist_ok=True)
        if not path.name.endswith("tests.yml"):
            copy.write_text(shorten(path.read_text(encoding="utf-8")), encoding="utf-8")
    config = yaml.safe_load((monitoring / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] |= {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    service, others = config["scrape_configs"]
    del service["dns_sd_configs"]
    service["file_sd_configs"] = [{"files": ["replicas.json"]}]
    others["static_configs"] = [{"targets": [alertmanager, scraped]}]
    exporter, (probe,) = _documented(monitoring)
    (folder / "blackbox.yml").write_text(yaml.safe_dump(exporter), encoding="utf-8")
    del probe["static_configs"]
    probe["file_sd_configs"] = [{"files": ["certificates.json"]}]
    (address,) = (rule for rule in probe["relabel_configs"] if rule["target_label"] == "__address__")
    address["replacement"] = blackbox
    config["scrape_configs"].append(probe)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    routing = yaml.safe_load((monitoring / "alertmanager.yml").read_text(encoding="utf-8"))
    for route in (routing["route"], *routing["route"]["routes"]):
        route |= {"group_wait": "1s", "group_interval": "1s"}
    hook = {"webhook_configs": [{"url": receiver}]}
    routing["receivers"] = [{"name": named["name"]} | hook for named in routing["receivers"]]
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(routing), encoding="utf-8")


@contextmanager
def running(monitoring: Path, folder: Path) -> Iterator[Monitor]:
    """Run both programs during the block. They scrape nothing until `scrape` is called."""
    folder.mkdir()
    with ExitStack() as stack:
        ports = [stack.enter_context(private_servers.reserved_port()) for _ in range(4)]
        prometheus, alertmanager, blackbox, hook = (f"127.0.0.1:{port}" for port in ports)
        _configure(monitoring, folder, prometheus, alertmanager, blackbox, f"http://{hook}/")
        receiver = Receiver(ports[-1])
        client = stack.enter_context(httpx.Client(timeout=_START_SECONDS, trust_env=False))
        monitor = Monitor(folder, client, f"http://{prometheus}", f"http://{alertmanager}", blackbox, receiver)
        stack.enter_context(receiver.running())
        stack.callback(stop, monitor)
        monitor.scrape()
        monitor.scrape(file="certificates.json")
        start_alertmanager(monitor)
        monitor.start(
            *("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
            *(f"--web.listen-address={prometheus}", "--enable-feature=exemplar-storage"),
        )
        monitor.await_ready(monitor.prometheus)
        yield monitor


def start_alertmanager(monitor: Monitor) -> None:
    address = monitor.alertmanager.removeprefix("http://")
    monitor.start(
        *("prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=notified"),
        *(f"--web.listen-address={address}", "--cluster.listen-address="),
    )
    monitor.await_ready(monitor.alertmanager)


def stop(monitor: Monitor) -> None:
    for name in monitor.processes:
        monitor.kill(name)
