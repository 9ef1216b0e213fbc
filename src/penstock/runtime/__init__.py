"""Models in memory: a loaded version, the queue in front of it, and the host that holds them."""

from penstock.runtime.away import Away, InPool, Scored, Ticket
from penstock.runtime.batcher import Batcher
from penstock.runtime.flight import Flight, Wait
from penstock.runtime.host import Host, Served
from penstock.runtime.model import Model, open_model
from penstock.runtime.remote import Remote, RemoteModel
from penstock.runtime.version import Cost, Version

__all__ = [
    "Away",
    "Batcher",
    "Cost",
    "Flight",
    "Host",
    "InPool",
    "Model",
    "Remote",
    "RemoteModel",
    "Scored",
    "Served",
    "Ticket",
    "Version",
    "Wait",
    "open_model",
]
