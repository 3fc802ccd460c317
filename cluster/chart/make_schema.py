"""values.yaml and the settings of a served run -> values.schema.json: Helm refuses other names.

python cluster/chart/make_schema.py

Types are those of the defaults; what a default cannot tell is written here. A test holds the
written file to what this builds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from xmoe.serve.settings import ServeSettings

FOLDER = Path(__file__).parent
TARGET = FOLDER / "values.schema.json"
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
QUANTITY = {"type": ["string", "number"], "pattern": "^[0-9.]+(m|[KMGT]i?)?$"}
IMAGE = {
    "type": "string",
    "pattern": "(:[^:/]+|@sha256:[0-9a-f]{64})$",
    "not": {"pattern": ":latest$"},
}
WORDS = {"type": "object", "additionalProperties": {"type": "string"}}
GROUPS = {"type": "object", "additionalProperties": {"$ref": "#/$defs/Group"}}
# What the defaults do not say, by the path of the value.
RULES: dict[str, dict[str, Any]] = {
    "images.cpu": IMAGE,
    "images.gpu": IMAGE,
    "redis.image": IMAGE,
    "imagePullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "redis.mode": {"enum": ["none", "single", "managed"]},
    "service.upgrade.type": {"enum": ["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]},
    "service.upgrade.stepSizePercent": {"type": "integer", "minimum": 1, "maximum": 100},
    "service.upgrade.maxSurgePercent": {"type": "integer", "minimum": 1, "maximum": 100},
    "service.groups": GROUPS,
    "cluster.groups": GROUPS,
    "head": {"$ref": "#/$defs/Group"},
    "group": {"$ref": "#/$defs/Group"},
    "jobs": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Job"}},
    "serviceAccount.annotations": WORDS,
    "ingress.annotations": WORDS,
    "gateway.annotations": WORDS,
    "monitoring.podMonitor.labels": WORDS,
    "monitoring.rules.labels": WORDS,
    "monitoring.dashboard.labels": WORDS,
    "autoscaler.resources": {"type": "object"},
    "topologySpread": {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["topologyKey", "maxSkew", "whenUnsatisfiable"],
            "properties": {
                "topologyKey": {"type": "string"},
                "maxSkew": {"type": "integer", "minimum": 1},
                "whenUnsatisfiable": {"enum": ["ScheduleAnyway", "DoNotSchedule"]},
            },
        },
    },
}
NAMED = {"host": {"minLength": 1}, "tlsSecret": {"minLength": 1}, "className": {"minLength": 1}}


def build_schema() -> dict[str, Any]:
    """Return the schema of the chart's values."""
    values = yaml.safe_load((FOLDER / "values.yaml").read_text(encoding="utf-8"))
    settings = _bare(ServeSettings.model_json_schema(ref_template="#/$defs/{model}"))
    definitions = settings.pop("$defs")
    del settings["properties"]["run"], settings["required"]
    group = _of(values["group"], "Group.")
    group["properties"] |= {"image": {"enum": ["cpu", "gpu"]}, "nodeSelector": WORDS}
    group["properties"] |= dict.fromkeys(("cpu", "memory"), QUANTITY)
    job = _of(values["job"], "Job.")
    job["properties"] |= {"entrypoint": {"type": "string", "pattern": "^xmoe "}, "groups": GROUPS}
    job["required"] = ["entrypoint"]
    RULES["service.settings"] = settings
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$defs": definitions | {"Group": group, "Job": job},
        **_of(values, ""),
        "allOf": [
            _if(("ingress", "enabled"), True, {"ingress": {"properties": NAMED}}),
            _if(("gateway", "enabled"), True, {"gateway": {"properties": NAMED}}),
            _if(
                ("redis", "mode"),
                "managed",
                {"redis": {"properties": {"address": {"pattern": "^rediss?://"}}}},
            ),
        ],
    }


def _of(value: Any, where: str) -> dict[str, Any]:
    """Return the schema of a default; ``where`` is the path of what is inside it."""
    if (rule := RULES.get(where[:-1])) is not None:
        return rule
    if isinstance(value, dict):
        inside = {key: _of(one, f"{where}{key}.") for key, one in value.items()}
        closed: dict[str, Any] = {"additionalProperties": False} if inside else {}
        return {"type": "object", "properties": inside, **closed}
    if isinstance(value, list):
        return {"type": "array"}
    return {"type": TYPES[type(value)]}


def _bare(schema: Any) -> Any:
    """Return a schema without its words, which change more often than what it asks for."""
    if isinstance(schema, dict):
        words = ("title", "description")
        return {k: _bare(v) for k, v in schema.items() if not (k in words and isinstance(v, str))}
    return [_bare(one) for one in schema] if isinstance(schema, list) else schema


def _if(path: tuple[str, str], value: Any, then: dict[str, Any]) -> dict[str, Any]:
    outer, inner = path
    asked = {outer: {"properties": {inner: {"const": value}}, "required": [inner]}}
    return {"if": {"properties": asked}, "then": {"properties": then}}


def main() -> None:
    """Write the schema."""
    TARGET.write_text(json.dumps(build_schema(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
