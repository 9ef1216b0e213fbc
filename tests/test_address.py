"""Where the server and the control API listen: who can reach it, and what is said when that cannot be."""

from __future__ import annotations

import socket

import pytest

from penstock.address import listen, require_safe_address, url_of
from penstock.errors import SettingsError
from penstock.settings import ControlSettings, ServerSettings


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (ServerSettings(host="0.0.0.0"), "server.host is 0.0.0.0, which others can reach.* say --insecure"),
        (
            ControlSettings(host="0.0.0.0"),
            "control.host is 0.0.0.0, which others can reach.* say control.insecure = true",
        ),
    ],
)
def test_an_address_that_others_reach(section: ServerSettings | ControlSettings, words: str) -> None:
    """Each section names its own setting, and how to insist."""
    with pytest.raises(SettingsError, match=words):
        require_safe_address(section)


@pytest.mark.parametrize("section", [ServerSettings, ControlSettings])
def test_an_address_of_our_own(section: type[ServerSettings] | type[ControlSettings]) -> None:
    """Loopback is safe, and so is whatever somebody insists on."""
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        require_safe_address(section(host=host))
    require_safe_address(section(host="0.0.0.0", insecure=True))


@pytest.mark.parametrize(("section", "name"), [(ServerSettings, "server"), (ControlSettings, "control")])
def test_a_port_that_is_taken(section: type[ServerSettings] | type[ControlSettings], name: str) -> None:
    """The message names the address and the setting that chooses another."""
    with listen(section(port=0)) as taken:
        port = taken.getsockname()[1]
        assert f"http://127.0.0.1:{port}" == url_of(taken)
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}: .*choose another {name}.port"):
            listen(section(port=port))


def test_ipv6() -> None:
    """An address with colons is an IPv6 one, in brackets in its URL."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with listen(ServerSettings(host="::1", port=0)) as listener:
        assert f"http://[::1]:{listener.getsockname()[1]}" == url_of(listener)
