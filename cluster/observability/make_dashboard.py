"""Panels -> the Grafana dashboard of the chart. Run: python make_dashboard.py.

Each panel is one entry here; a test holds the written file to what this builds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, COLUMNS = 8, 7, 3
TARGET = Path(__file__).parents[1] / "chart" / "files" / "grafana-dashboard.json"
Q = "histogram_quantile({q}, sum by (le{by}) (rate({name}_bucket[$__rate_interval])))"

PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Answers per second",
        "reqps",
        (
            (
                "sum by (degraded) (rate(ray_xmoe_answers_total[$__rate_interval]))",
                "degraded={{degraded}}",
            ),
        ),
    ),
    (
        "Degraded share",
        "percentunit",
        (
            (
                'sum(rate(ray_xmoe_answers_total{degraded="true"}[$__rate_interval]))'
                " / sum(rate(ray_xmoe_answers_total[$__rate_interval]))",
                "degraded",
            ),
        ),
    ),
    (
        "Refusals per second, by code",
        "reqps",
        (("sum by (code) (rate(ray_xmoe_refusals_total[$__rate_interval]))", "{{code}}"),),
    ),
    (
        "Stage, median",
        "ms",
        ((Q.format(q=0.5, by=", stage", name="ray_xmoe_stage_ms"), "{{stage}}"),),
    ),
    (
        "Stage, 99th percentile",
        "ms",
        ((Q.format(q=0.99, by=", stage", name="ray_xmoe_stage_ms"), "{{stage}}"),),
    ),
    (
        "Experts asked per segment (K), mean",
        "short",
        (
            (
                "sum(rate(ray_xmoe_experts_asked_sum[$__rate_interval]))"
                " / sum(rate(ray_xmoe_experts_asked_count[$__rate_interval]))",
                "mean K",
            ),
        ),
    ),
    (
        "Calls per second, by expert",
        "reqps",
        (("sum by (expert) (rate(ray_xmoe_expert_calls_total[$__rate_interval]))", "{{expert}}"),),
    ),
    (
        "Failed calls per second",
        "reqps",
        (
            (
                'sum by (expert, outcome) (rate(ray_xmoe_expert_calls_total{outcome!="ok"}'
                "[$__rate_interval]))",
                "{{expert}} {{outcome}}",
            ),
        ),
    ),
    (
        "Call, 99th percentile, by expert",
        "ms",
        ((Q.format(q=0.99, by=", expert", name="ray_xmoe_expert_call_ms"), "{{expert}}"),),
    ),
    (
        "Healthy replicas",
        "short",
        (("sum by (deployment) (ray_serve_deployment_replica_healthy)", "{{deployment}}"),),
    ),
    (
        "Waiting calls",
        "short",
        (("sum by (deployment) (ray_serve_deployment_queued_queries)", "{{deployment}}"),),
    ),
    (
        "Segments per micro-batch, mean",
        "short",
        (
            (
                "sum(rate(ray_xmoe_block_rows_sum[$__rate_interval]))"
                " / sum(rate(ray_xmoe_block_rows_count[$__rate_interval]))",
                "rows",
            ),
        ),
    ),
)


def build_dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    return {
        "uid": "xmoe",
        "title": "xmoe",
        "tags": ["ray", "xmoe"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "type": "datasource",
                    "query": "prometheus",
                    "label": "Source",
                }
            ]
        },
        "panels": [build_panel(number, *panel) for number, panel in enumerate(PANELS)],
    }


def build_panel(
    number: int, title: str, unit: str, lines: tuple[tuple[str, str], ...]
) -> dict[str, Any]:
    """Return one panel of lines over time at its place in the grid."""
    row, column = divmod(number, COLUMNS)
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": source, "expr": expr, "legendFormat": legend}
            for i, (expr, legend) in enumerate(lines)
        ],
    }


def main() -> None:
    """Write the dashboard."""
    TARGET.write_text(json.dumps(build_dashboard(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
