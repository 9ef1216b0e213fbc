"""Models in memory: a loaded version, the queue in front of it, and the host that holds them."""

from penstock.runtime.away import Away, InPool, Results, Ticket, Timing, Took
from penstock.runtime.batcher import Batcher
from penstock.runtime.breaker import Breaker
from penstock.runtime.cache import ResponseCache
from penstock.runtime.dormant import Dormant, Load
from penstock.runtime.fallback import Fallback
from penstock.runtime.host import Host
from penstock.runtime.model import Model, open_model
from penstock.runtime.remote import Remote, RemoteModel
from penstock.runtime.served import Served
from penstock.runtime.terms import Limits
from penstock.runtime.version import Cost, Version

__all__ = [
    "Away",
    "Batcher",
    "Breaker",
    "Cost",
    "Dormant",
    "Fallback",
    "Host",
    "InPool",
    "Limits",
    "Load",
    "Model",
    "Remote",
    "RemoteModel",
    "ResponseCache",
    "Results",
    "Served",
    "Ticket",
    "Timing",
    "Took",
    "Version",
    "open_model",
]
