"""The control API: REST over `controller/operations.py`, on a port of its own that is loopback's by default."""

from penstock.controller.api.app import api_of, uvicorn_config

__all__ = ["api_of", "uvicorn_config"]
