"""What a rollout knows, and what follows from it: pure values and decisions; no log, no database, no process."""

from penstock.rollout.confidence import Difference, Interval
from penstock.rollout.evidence import Evidence
from penstock.rollout.guardrails import GUARDRAILS, Guardrail, Watched
from penstock.rollout.observation import Observation, Outcome
from penstock.rollout.reading import Reading

__all__ = [
    "GUARDRAILS",
    "Difference",
    "Evidence",
    "Guardrail",
    "Interval",
    "Observation",
    "Outcome",
    "Reading",
    "Watched",
]
