"""What happened, durably: the record of one call, and the log that has it on disk before the reply leaves."""

from penstock.audit.ids import RequestIds
from penstock.audit.log import AuditLog, FailureRule, OnFlushed
from penstock.audit.record import Record, read_record
from penstock.audit.tags import Masked, tag

__all__ = ["AuditLog", "FailureRule", "Masked", "OnFlushed", "Record", "RequestIds", "read_record", "tag"]
