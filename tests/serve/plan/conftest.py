"""Service times of a small service."""

from xmoe.serve.plan.simulate import Times

TIMES = Times(
    proxy_ms=1.0,
    request_ms=2.0,
    plan_ms=4.0,
    call_ms=1.5,
    reply_ms=1.5,
    delay_ms=2.0,
    expert_ms={"a": 5.0, "b": 8.0},
)
