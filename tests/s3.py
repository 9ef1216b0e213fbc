"""An S3 server of our own: moto's, as a process on a free port of loopback, ended with its pipe."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from loads import wait_for

_ADDRESS = "http://127.0.0.1:"
_PROGRAM = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
_NUMBERS = itertools.count()


class S3:
    """A running server; `environment` is what its clients need."""

    def __init__(self, port: int) -> None:
        self.environment: Mapping[str, str] = {
            "AWS_ENDPOINT_URL": f"{_ADDRESS}{port}",
            "AWS_ACCESS_KEY_ID": "us",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def new_bucket(self) -> str:
        """The URL of a new bucket's folder. The environment is to be set."""
        import s3fs

        name = f"penstock-{os.getpid()}-{next(_NUMBERS)}"
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
        return f"s3://{name}/models"


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    """A server while the block runs; skips where moto or s3fs is not installed."""
    pytest.importorskip("s3fs", reason="no s3fs: penstock[s3]")
    pytest.importorskip("moto", reason="no moto: penstock[dev]")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None and process.stdout is not None
    with process.stdin as pipe, process.stdout as out:
        try:
            yield S3(int(out.readline()))
        finally:
            pipe.close()
            wait_for(lambda: process.poll() is not None, "the S3 server's end")
