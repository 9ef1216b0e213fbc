"""Models in memory: a loaded version, the queue in front of it, and the host that holds them."""

from penstock.runtime.away import Away, InPool, Scored, Ticket
from penstock.runtime.batcher import Batcher
from penstock.runtime.flight import Flight, Wait
from penstock.runtime.host import Host, Served
from penstock.runtime.model import Model, open_model

__all__ = ["Away", "Batcher", "Flight", "Host", "InPool", "Model", "Scored", "Served", "Ticket", "Wait", "open_model"]
