"""Rows of results: a value, and the target it is held against."""

import json


class Report:
    """Collects rows, prints each as it comes, and a table at the end."""

    def __init__(self, machine):
        self.machine = machine
        self.rows = []

    def note(self, benchmark, name, value):
        """A figure without a target (`value` is text with its unit)."""
        self._add({"benchmark": benchmark, "name": name, "value": value, "target": "", "verdict": ""})

    def at_least(self, benchmark, name, value, target, unit=""):
        """A figure that should not be below its target."""
        self._judge(benchmark, name, value, f">= {target}{unit}", value >= target, unit)

    def at_most(self, benchmark, name, value, target, unit=""):
        """A figure that should not be above its target."""
        self._judge(benchmark, name, value, f"<= {target}{unit}", value <= target, unit)

    def _judge(self, benchmark, name, value, target, holds, unit):
        verdict = "PASS" if holds else "MISS"
        text = f"{value:.3g}{unit}" if abs(value) < 1000 else f"{value:.0f}{unit}"
        self._add({"benchmark": benchmark, "name": name, "value": text, "target": target, "verdict": verdict})

    def _add(self, row):
        self.rows.append(row)
        print(f"  {row['name']}: {row['value']} {row['target']} {row['verdict']}".rstrip(), flush=True)

    def table(self):
        """Every row, aligned."""
        columns = ("benchmark", "name", "value", "target", "verdict")
        rows = [dict(zip(columns, columns)), *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in columns]
        lines = ["  ".join(row[column].ljust(width) for column, width in zip(columns, widths)).rstrip() for row in rows]
        machine = "{cpu}, {cores} cores, {memory_gib} GiB, load {load_1_minute}".format(**self.machine)
        return "\n".join([f"machine: {machine}", *lines])

    def write(self, path):
        """All of it as JSON."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"machine": self.machine, "rows": self.rows}, file, indent=1)

    def misses(self):
        """How many targets were missed."""
        return sum(row["verdict"] == "MISS" for row in self.rows)
