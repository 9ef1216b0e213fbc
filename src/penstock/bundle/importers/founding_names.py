"""The files of the founding layout, by name: for those who look for such folders and read none."""

from __future__ import annotations

from typing import Final

SCHEMA_FILE: Final = "feature_schema.yaml"
MODEL_FILE: Final = "model.pkl"
ENCODERS_FILE: Final = "encoders.pkl"
SCALER_FILE: Final = "scaler.pkl"
