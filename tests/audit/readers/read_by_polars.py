"""Prints as JSON what polars finds in the sealed files of a model, whose folder is given. Runs in `.venvs/readers`."""

import json
import sys
from pathlib import Path

import polars

files = sorted(Path(sys.argv[1]).glob("*/*.parquet"))
records = polars.concat([polars.scan_parquet(file) for file in files], how="diagonal_relaxed")
answered = records.filter(polars.col("code") == "ok").explode("feature_age", "prediction_label").collect()
sys.stdout.write(
    json.dumps(
        {
            "records": records.select(polars.len()).collect().item(),
            "ages": answered["feature_age"].drop_nulls().to_list(),
            "tenures": answered["feature_tenure"].list.first().drop_nulls().to_list(),
            "labels": answered["prediction_label"].drop_nulls().unique().to_list(),
        }
    )
)
