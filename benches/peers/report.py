"""Rounds turned into tables.

A check is taken inside each round, between runs that stood next to each other, and its median is reported with the
smallest and largest of the rounds as its noise.
"""

import os
import platform
import statistics

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def spread(values):
    """Median, smallest and largest of the values that are there; None without any."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def checks(row, rounds):
    """Each check of a row over its rounds: the figures, the bound, and whether it holds."""
    found = []
    for check in row.checks:
        try:
            values = spread(check.of(one) for one in rounds)
        except KeyError:
            values = None
        at_most = bound(check, rounds)
        holds = None if at_most is None or values is None else values["median"] <= at_most
        found.append({"label": check.label, "at_most": at_most, "unit": check.unit, "digits": check.digits,
                      "values": values, "holds": holds})
    return found


def bound(check, rounds):
    """What a check is held to: its own bound, or the noise where that is more."""
    if check.noise is None or check.at_most is None:
        return check.at_most
    return max(check.at_most, statistics.median(abs(check.noise(one)) for one in rounds))


def summary(rounds):
    """Per target: CPU, rate, latency, memory, failures, copies and spans."""
    found = {}
    for label in rounds[0]:
        runs = [one[label] for one in rounds]
        over = {key: spread(run.get(key) for run in runs) for key in (
            "cpu_us_per_call", "model_cpu_us_per_call", "load_cpu_us_per_call", "calls_per_second",
            "rss_mib", "highest_rss_mib", "copies_per_call", "spans_per_call")}
        latency = {f"{key}_us": spread(run["latency_us"][key] for run in runs) for key in ("p50", "p99")}
        failures = {}
        for run in runs:
            for kind, calls in run["failures"].items():
                failures[kind] = failures.get(kind, 0) + calls
        found[label] = {**over, **latency, "calls": sum(run["calls"] for run in runs),
                        "failed": sum(run["failed"] for run in runs), "failures": failures}
    return found


def markdown(whole):
    """The whole report as text that reads well in a terminal and as Markdown."""
    rows = whole["rows"]
    lines = [f"Machine: {whole['machine']}.", "", *_bounds(rows)]
    for name, row in rows.items():
        lines += ["", f"### {name}: {row['title']}", "", _how(row), ""]
        lines += _table(row["targets"])
        for label, target in row["targets"].items():
            lines += [f"- {label}: {calls} failed: {kind}" for kind, calls in target["failures"].items()]
        lines += [f"- skipped: {label}: {why}" for label, why in row["skipped"].items()]
    return "\n".join(lines).rstrip() + "\n"


def _how(row):
    if not row["targets"]:
        return "Nothing was measured."
    rate = f"{row['rate']:,.0f} calls/s, " if row.get("rate") else ""
    disturbed = ": **disturbed**" if row["others"] > 0.1 else ""
    return (f"{row['when']}, commit {row['commit']}: {len(row['rounds'])} rounds, {rate}"
            f"other processes took {row['others']:.0%} of the machine{disturbed}.")


def _bounds(rows):
    table = [["row", "measured", "median [min–max]", "at most", ""]]
    for row in rows.values():
        for check in row["checks"]:
            unit = f" {check['unit']}" if check["unit"] else ""
            at_most = "–" if check["at_most"] is None else f"{check['at_most']:.4g}{unit}"
            verdict = {True: "ok", False: "**over**", None: ""}[check["holds"]]
            values = cell(check["values"], check["digits"])
            table.append([row["title"], check["label"], values + (unit if check["values"] else ""), at_most, verdict])
    return grid(table)


def _table(targets):
    columns = [("CPU µs/call", "cpu_us_per_call", 1), ("calls/s", "calls_per_second", 0), ("p50 µs", "p50_us", 0),
               ("p99 µs", "p99_us", 0), ("highest MiB", "highest_rss_mib", 1), ("copies/call", "copies_per_call", 2),
               ("spans/call", "spans_per_call", 2), ("model server µs/call", "model_cpu_us_per_call", 1),
               ("caller µs/call", "load_cpu_us_per_call", 1)]
    columns = [column for column in columns if any(target[column[1]] for target in targets.values())]
    table = [["", *(column[0] for column in columns), "failed"]]
    for label, target in targets.items():
        cells = [cell(target[key], digits) for _, key, digits in columns]
        table.append([label, *cells, f"{target['failed']} of {target['calls']:,}"])
    return grid(table)


def grid(rows):
    """A Markdown table whose columns stand below each other; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def cell(values, digits):
    """A figure and its noise."""
    if values is None:
        return "–"
    low, middle, high = (f"{values[key]:,.{digits}f}" for key in ("min", "median", "max"))
    return middle if low == high else f"{middle} [{low}–{high}]"


def rewrite(page, text):
    """Puts the text between the page's two marks."""
    with open(page) as file:
        before, rest = file.read().split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    with open(page, "w") as file:
        file.write(f"{before}{BEGIN}\n{text}{END}{after}")


def machine():
    """One line on where this was measured."""
    model = platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{os.cpu_count()} cores, {model}, Linux {platform.release()}"
