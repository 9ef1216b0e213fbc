"""A rollout's plan as an operator writes it: YAML, of which only what differs from the defaults need be there."""

from __future__ import annotations

import msgspec

from penstock.errors import SchemaError, SettingsError
from penstock.rollout.declared import Plan
from penstock.schema.yaml_form import mapping_from_yaml


def read_plan(text: str) -> Plan:
    """The plan in a YAML text (1.2); the default one for an empty text. Raises SettingsError naming what is wrong."""
    if not text.strip():
        return Plan()
    try:
        return msgspec.convert(mapping_from_yaml(text, "the plan", "steps"), Plan)
    except (SchemaError, msgspec.ValidationError) as error:
        raise SettingsError(f"the plan: {error}; docs/rollouts.md shows the form") from error
