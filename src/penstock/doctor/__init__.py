"""What is wrong with this installation, and the mend: `look` gathers facts, `findings_of` judges them."""

from penstock.doctor.facts import Facts, look
from penstock.doctor.findings import Finding, findings_of

__all__ = ["Facts", "Finding", "findings_of", "look"]
