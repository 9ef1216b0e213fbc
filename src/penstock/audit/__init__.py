"""What happened, durably: the record of one call, and the log that has it on disk before the reply leaves."""

from penstock.audit.chain import Broken, ChainReport, broken_links, read_records, verify
from penstock.audit.durability import AsyncBound, Durability, bound_of
from penstock.audit.erase import Erased, Erasure, Erasures, Wanted, erase, unexplained
from penstock.audit.ids import RequestIds
from penstock.audit.issued import Unwritten, unwritten
from penstock.audit.log import AuditLog
from penstock.audit.mask import Masker
from penstock.audit.privacy import Keeps, Policy, Privacy, keeps
from penstock.audit.pseudonyms import Pseudonyms, open_pseudonyms
from penstock.audit.record import Answered, FellBack, OfArm, Payload, Record, opening_of, read_record
from penstock.audit.recovery import Recovered, recover
from penstock.audit.run import OnFlushed
from penstock.audit.tags import Masked, tag
from penstock.audit.tail import Place, records_after

__all__ = [
    "Answered",
    "AsyncBound",
    "AuditLog",
    "Broken",
    "ChainReport",
    "Durability",
    "Erased",
    "Erasure",
    "Erasures",
    "FellBack",
    "Keeps",
    "Masked",
    "Masker",
    "OfArm",
    "OnFlushed",
    "Payload",
    "Place",
    "Policy",
    "Privacy",
    "Pseudonyms",
    "Record",
    "Recovered",
    "RequestIds",
    "Unwritten",
    "Wanted",
    "bound_of",
    "broken_links",
    "erase",
    "keeps",
    "open_pseudonyms",
    "opening_of",
    "read_record",
    "read_records",
    "records_after",
    "recover",
    "tag",
    "unexplained",
    "unwritten",
    "verify",
]
