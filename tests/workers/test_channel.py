"""Messages between processes: whole ones, however long, and what comes with them."""

from __future__ import annotations

import socket

import pytest

from penstock.routing import NOTHING
from penstock.started import Loaded
from penstock.workers import channel
from penstock.workers.channel import MAX_MESSAGE_BYTES, Applied, Attach, Failed, Swap


@pytest.mark.parametrize("length", [0, 1000, MAX_MESSAGE_BYTES - 100, MAX_MESSAGE_BYTES, 5_000_000])
def test_long_messages(length: int) -> None:
    """What does not fit a socket's buffer arrives as whole as a short message, and in its turn."""
    ours, theirs = channel.pair()
    with ours, theirs:
        sent = [Failed("x" * length), Applied(3, {"iris/1": "y" * length}, 2), Failed("last")]
        assert [True, True, True] == [channel.send(theirs, message) for message in sent]  # type: ignore[arg-type]
        assert sent == [channel.received_by_supervisor(ours) for _ in sent]
        with pytest.raises(BlockingIOError):
            channel.received_by_supervisor(ours)


def test_a_long_message_with_a_connection() -> None:
    """A connection comes with a long message as with a short one."""
    ours, theirs = channel.pair()
    near, far = socket.socketpair()
    with ours, theirs, near, far:
        loaded = [Loaded("iris", number, "z" * 1000, 1.0, 2.0, 3) for number in range(200)]
        assert channel.send(ours, Swap(NOTHING, loaded, 1), far)
        assert channel.send(ours, Attach("x" * MAX_MESSAGE_BYTES, 1), far)
        message, connection = channel.received_by_worker(theirs)
        assert Swap(NOTHING, loaded, 1) == message
        assert connection is not None
        connection.close()
        message, connection = channel.received_by_worker(theirs)
        assert isinstance(message, Attach) and connection is not None
        with connection:
            connection.sendall(b"hello")
            assert b"hello" == near.recv(5)


def test_the_end_of_a_channel() -> None:
    """What was sent before the end is heard, and then the end; nothing can be sent."""
    ours, theirs = channel.pair()
    with ours:
        channel.send(theirs, Failed("x" * 1_000_000))
        theirs.close()
        assert Failed("x" * 1_000_000) == channel.received_by_supervisor(ours)
        assert None is channel.received_by_supervisor(ours)
        assert not channel.send(ours, Failed("too late"))
