"""What happened, durably: the record of one call, and the log that has it on disk before the reply leaves."""

from penstock.audit.chain import Broken, ChainReport, broken_links, read_records, verify
from penstock.audit.durability import Durability, bound_of
from penstock.audit.ids import RequestIds
from penstock.audit.issued import Unwritten, unwritten
from penstock.audit.log import AuditLog
from penstock.audit.mask import Masker
from penstock.audit.record import Answered, FellBack, Record, opening_of, read_record
from penstock.audit.recovery import Recovered, recover
from penstock.audit.run import OnFlushed
from penstock.audit.tags import Masked, tag
from penstock.audit.tail import Place, records_after

__all__ = [
    "Answered",
    "AuditLog",
    "Broken",
    "ChainReport",
    "Durability",
    "FellBack",
    "Masked",
    "Masker",
    "OnFlushed",
    "Place",
    "Record",
    "Recovered",
    "RequestIds",
    "Unwritten",
    "bound_of",
    "broken_links",
    "opening_of",
    "read_record",
    "read_records",
    "records_after",
    "recover",
    "tag",
    "unwritten",
    "verify",
]
