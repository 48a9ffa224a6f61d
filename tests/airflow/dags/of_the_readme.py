"""The DAG that the README shows, word for word."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).resolve().parents[3] / "README.md"
exec(README.read_text().partition("```python airflow\n")[2].partition("```\n")[0])  # noqa: S102 - our own text
