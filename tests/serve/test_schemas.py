"""The schema against the application: requests made from it get no 5xx and what it promises."""

from collections import Counter
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from xmoe.serve.http.api import build_app

HTTP = {"allow_hosts": ["testserver"]}  # what schemathesis asks

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def run(service, examples, mode):
    """Send generated requests to every operation; return how often each status came back."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", build_app(service))
    statuses = Counter()
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case):
            reply = case.call()
            statuses[reply.status_code] += 1
            case.validate_response(reply, checks=CHECKS)

        with suppress(Unsatisfiable):  # an operation that takes no input has no wrong one
            send()
    return statuses


@pytest.mark.parametrize("mode", GenerationMode)
def test_generated_requests_get_what_the_schema_promises(serve_run, mode):
    statuses = run(serve_run(http=HTTP), 5, mode)
    assert statuses.total() > 20
    assert statuses[422] > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mode", GenerationMode)
def test_many_generated_requests_get_what_the_schema_promises(serve_run, mode):
    statuses = run(serve_run(http=HTTP), 100, mode)
    assert statuses.total() > 500
    assert statuses[422] > 0
    assert (statuses[200] > 0) == (mode is GenerationMode.POSITIVE)
