"""Writes the yearly carbon of grids anew from an installed CodeCarbon.

`python scripts/refresh_grids.py FOLDER VERSION`: FOLDER is that of the package `codecarbon`, with `data` in it. Its
data is under the MIT License.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

TABLE = Path(__file__).parents[1] / "optimizer/gangplan/execute/green/regions.csv"
MISSPELT = {"me-cenrtal1": "me-central1"}  # in CodeCarbon 3.3.2
NOTICE = """\
# Yearly mean grams of CO2 for each kWh, from CodeCarbon's data. MIT License. Copyright (c) 2019 Mila, BCG Gamma,
# CometML, Haverford College; Copyright (c) 2023 Code Carbon NGO. Countries (ISO 3166) are Our World in Data's, with
# their year. Regions of Google Cloud are Google's, whose year the file does not state: 0.
"""


def main(folder: Path, version: str) -> None:
    """Write the table."""
    mix = json.loads((folder / "data/private_infra/global_energy_mix.json").read_text())
    rows = [(name, float(each["carbon_intensity"]), int(each["year"])) for name, each in mix.items()]
    clouds = (folder / "data/cloud/impact.csv").read_text(encoding="utf-8-sig").splitlines()
    for row in csv.DictReader(clouds):
        if row["provider"] == "gcp":
            rows.append((MISSPELT.get(row["region"], row["region"]), float(row["impact"]), 0))
    lines = [f"{name},{grams:g},{year},CodeCarbon {version}" for name, grams, year in rows]
    TABLE.write_text(NOTICE + "\n".join(["region,g_per_kwh,year,source", *lines, ""]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
