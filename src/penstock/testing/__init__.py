"""For tests, ours and yours: a server on a free port, what it recorded, a check of protocols, Hypothesis strategies.

A pytest fixture is in `penstock.testing.fixture`. Nothing of Penstock imports this package.
"""

from penstock.testing.contract import check_protocol
from penstock.testing.memory_store import MemoryStore
from penstock.testing.server import Running, running
from penstock.testing.tongues import TONGUES, Heard, Tongue

__all__ = ["TONGUES", "Heard", "MemoryStore", "Running", "Tongue", "check_protocol", "running"]
