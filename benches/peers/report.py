"""Rounds turned into tables.

A ratio is taken inside each round, between runs that stood next to each other, and its median is reported with the
smallest and largest of the rounds as its noise.
"""

import os
import platform
import statistics


def spread(values):
    """Median, smallest and largest of the values that are there; None without any."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summary(rounds, ours="parhelion"):
    """Per peer: CPU, rate, latency, memory, failures, and the ratio of our CPU to theirs."""
    peers = list(dict.fromkeys(name for one in rounds for name in one))
    rows = {}
    for name in peers:
        runs = [one[name] for one in rounds if name in one]
        rows[name] = {
            "rounds": len(runs),
            "calls": sum(run["calls"] for run in runs),
            "failed": sum(run["failed"] for run in runs),
            "failures": _failures(runs),
            "cpu_us_per_call": spread(run["cpu_us_per_call"] for run in runs),
            "upstream_cpu_us_per_call": spread(run["upstream_cpu_us_per_call"] for run in runs),
            "calls_per_second": spread(run["calls_per_second"] for run in runs),
            "p50_us": spread(run["latency_us"]["p50"] for run in runs),
            "p99_us": spread(run["latency_us"]["p99"] for run in runs),
            "rss_mib": max((run["rss_mib"] for run in runs if run["rss_mib"]), default=None),
            "highest_rss_mib": max((run["highest_rss_mib"] for run in runs if run["rss_mib"]), default=None),
            "ratio": spread(_ratio(one, ours, name) for one in rounds) if name != ours else None,
        }
    return rows


def _ratio(one, ours, theirs):
    """Our CPU per call through theirs, within one round."""
    cpu = [one.get(name, {}).get("cpu_us_per_call") for name in (ours, theirs)]
    return cpu[0] / cpu[1] if all(cpu) else None


def _failures(runs):
    counted = {}
    for run in runs:
        for kind, calls in run["failures"].items():
            counted[kind] = counted.get(kind, 0) + calls
    return counted


def markdown(works, skipped):
    """The whole report as text that reads well in a terminal and as Markdown."""
    lines = [machine(), ""]
    for name, work in works.items():
        others = f"other processes took {work['others']:.0%} of the machine"
        lines += [f"## {name}: {work['shape']}, {work['calls']:,} calls a round; {others}", ""]
        lines += _table(work["peers"])
        for peer, row in work["peers"].items():
            for kind, calls in row["failures"].items():
                lines.append(f"- {peer}: {calls} failed: {kind}")
        lines.append("")
    lines += [f"- skipped: {peer}: {why}" for peer, why in skipped.items()]
    return "\n".join(lines).rstrip() + "\n"


def _table(peers):
    heads = ["peer", "CPU µs/call", "Parhelion ÷ peer", "calls/s", "p50 µs", "p99 µs", "RSS MiB (highest)",
             "failed", "model server µs/call"]
    rows = [heads]
    for name, row in peers.items():
        memory = f"{row['rss_mib']:.0f} ({row['highest_rss_mib']:.0f})" if row["rss_mib"] else "–"
        rows.append([
            name, _cell(row["cpu_us_per_call"], 1), _cell(row["ratio"], 2), _cell(row["calls_per_second"], 0),
            _cell(row["p50_us"], 0), _cell(row["p99_us"], 0), memory, f"{row['failed']} of {row['calls']}",
            _cell(row["upstream_cpu_us_per_call"], 1),
        ])
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def _cell(values, digits):
    if values is None:
        return "–"
    low, middle, high = (f"{values[key]:,.{digits}f}" for key in ("min", "median", "max"))
    return f"{middle} [{low}–{high}]"


def machine():
    """One line on where this was measured."""
    model = platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{os.cpu_count()} cores, {model}, Linux {platform.release()}"
