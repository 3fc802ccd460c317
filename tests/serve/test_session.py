"""Before Ray starts: the port must be free and the address this machine's."""

import socket

import pytest

from xmoe.errors import ConfigError
from xmoe.serve.session import check_port, serving
from xmoe.serve.settings import ServeSettings


@pytest.fixture
def taken():
    """A port of loopback at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_port_in_use_is_told_with_its_mend(taken):
    with pytest.raises(ConfigError, match=f"port {taken} of 127.0.0.1 is in use") as caught:
        check_port("127.0.0.1", taken)
    assert caught.value.where == "--port"
    assert f"--port {taken + 1}" in caught.value.mend


def test_port_in_use_stops_before_ray_starts(taken, tiny_run):
    import ray

    with (
        pytest.raises(ConfigError, match="in use"),
        serving(ServeSettings(run=str(tiny_run)), host="127.0.0.1", port=taken),
    ):
        pytest.fail("it served")
    assert not ray.is_initialized()


def test_port_that_was_just_let_go_is_free(taken):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = listener.accept()
    served.close()  # the side that closes first waits in TIME_WAIT
    client.close()
    check_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_address_that_is_not_this_machines(host):
    with pytest.raises(ConfigError, match="cannot be listened to") as caught:
        check_port(host, 8249)
    assert caught.value.where == "--host"
