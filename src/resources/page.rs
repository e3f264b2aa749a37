//! What a page of metrics says of its process.
//!
//! The three names are those of the client libraries' standard process metrics, the same in Go, Python, Java, Node and
//! Rust. Several samples of one name are of several processes behind one page, and are added up. Everything else on
//! the page may be anything at all. Figures of a whole machine or of a GPU are no process's, and not read.

use crate::evidence::Reading;

const CPU: &str = "process_cpu_seconds_total";
const RESIDENT: &str = "process_resident_memory_bytes";
const STARTED: &str = "process_start_time_seconds";

/// A page without a word of its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the page has neither {CPU} nor {RESIDENT}: let the server's metrics library register its process collector"
)]
pub(super) struct Silent;

/// Reads Prometheus text or OpenMetrics.
pub(super) fn read(text: &str) -> Result<Reading, Silent> {
    let mut reading = Reading::default();
    for line in text.lines() {
        let Some((name, value)) = sample(line) else { continue };
        let add = |sum: &mut Option<f64>| *sum = Some(sum.unwrap_or(0.0) + value);
        match name {
            CPU => add(&mut reading.cpu),
            RESIDENT => add(&mut reading.resident),
            // The youngest: if one of several processes begins anew, the sum of their time is another too.
            STARTED => reading.started = Some(reading.started.map_or(value, |one: f64| one.max(value))),
            _ => {}
        }
    }
    if reading.cpu.is_none() && reading.resident.is_none() { Err(Silent) } else { Ok(reading) }
}

/// Name and value of a line that is a sample of a number that can be so.
fn sample(line: &str) -> Option<(&str, f64)> {
    let line = line.trim_start();
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(end);
    // Only what is looked for is looked at closely: other labels may hold any text.
    if ![CPU, RESIDENT, STARTED].contains(&name) {
        return None;
    }
    let rest = match rest.strip_prefix('{') {
        Some(labels) => labels.rsplit_once('}')?.1,
        None => rest,
    };
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_pages_are_read() {
        let go = "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.\n\
                  # TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 12.75\n\
                  process_resident_memory_bytes 5.4321152e+07\nprocess_start_time_seconds 1.7e+09\n";
        let all = Reading { cpu: Some(12.75), resident: Some(54_321_152.0), started: Some(1.7e9) };
        assert_eq!(read(go), Ok(all));
        let open = "process_cpu_seconds_total 12.75 # {trace_id=\"a} b\"} 1\nprocess_resident_memory_bytes 54321152 1700000000\n\
                    process_start_time_seconds 1.7e+09\n# EOF";
        assert_eq!(read(open), Ok(all));
    }

    #[test]
    fn several_processes_are_added_up() {
        let text = "process_cpu_seconds_total{pid=\"1\"} 1.5\nprocess_cpu_seconds_total{pid=\"2\",x=\"{\\\"}\"} 2\n\
                    process_start_time_seconds{pid=\"1\"} 100\nprocess_start_time_seconds{pid=\"2\"} 300";
        assert_eq!(read(text), Ok(Reading { cpu: Some(3.5), resident: None, started: Some(300.0) }));
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for text in [
            "",
            "<html>not here</html>",
            "nv_cpu_utilization 0.5\nnv_cpu_memory_used_bytes 1e9",
            "process_cpu_seconds_total NaN\nprocess_resident_memory_bytes -1",
            "process_cpu_seconds_total\nprocess_cpu_seconds_total{ 1\nmy_process_cpu_seconds_total 3",
            "process_start_time_seconds 1e9",
        ] {
            assert_eq!(read(text), Err(Silent), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_page_is_too_odd(text in "\\PC{0,200}", lines in proptest::collection::vec("process_(cpu_seconds_total|resident_memory_bytes)[ -~]{0,40}", 0..5)) {
            for page in [text.clone(), lines.join("\n"), format!("{text}\n{}", lines.join("\n"))] {
                if let Ok(reading) = read(&page) {
                    for value in [reading.cpu, reading.resident].into_iter().flatten() {
                        proptest::prop_assert!(value >= 0.0);
                    }
                }
            }
        }
    }
}
