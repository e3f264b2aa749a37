//! The figures of `parhelion webhook`, which is a process of its own.

use super::super::counter::Counters;
use super::super::names::metric;
use super::text::{Format, Kind, Text};
use super::{build, certificates, counters};
use crate::tls::End;
use crate::tls::server::Server;
use crate::webhook::{Tally, Verdict};

/// Which of the process's counters mean anything there.
const COUNTERS: [&str; 3] = [metric::TLS_REFUSED, metric::CERTIFICATE_RELOADS, metric::PANICS];

/// Everything, as text.
pub fn webhook(tally: &Tally, counted: &Counters, server: &Server, format: Format) -> String {
    let mut text = Text::new(format);
    text.family(metric::WEBHOOK_REVIEWS, Kind::Counter, "Reviews of pods, by what became of them.");
    for verdict in Verdict::ALL {
        text.sample(metric::WEBHOOK_REVIEWS, &[("result", verdict.name())], tally.get(verdict));
    }
    text.family(metric::WEBHOOK_DURATION, Kind::Histogram, "From a review's headers to its answer.");
    let seconds = tally.took.sum().as_secs_f64();
    text.histogram(metric::WEBHOOK_DURATION, &[], &tally.took.buckets(), seconds, |_| None);
    counters(&mut text, counted, |name| COUNTERS.contains(&name));
    let ends = server.ends().into_iter().map(|(file, until)| End { used: "webhook", file, until });
    certificates(&mut text, &ends.collect::<Vec<_>>(), server.refused().is_none());
    build(&mut text);
    text.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn its_own_names_are_written_and_none_of_the_sidecars_calls() {
        let tally = Tally::default();
        tally.add(Verdict::Injected, Duration::from_millis(2));
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["webhook".to_owned()]).unwrap();
        let (cert, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let files =
            crate::config::ServerTls { cert, key, client_ca: None, allow: Vec::new(), optional: false };
        let server = Server::load(&std::sync::Arc::new(files), crate::tls::server::Inside::Web).unwrap();
        let page = webhook(&tally, &Counters::default(), &server, Format::Prometheus);
        for line in [
            "parhelion_webhook_reviews_total{result=\"injected\"} 1",
            "parhelion_webhook_reviews_total{result=\"failed\"} 0",
            "parhelion_webhook_review_duration_seconds_count 1",
            "parhelion_certificates_current 1",
            "parhelion_tls_handshakes_refused_total{reason=\"no_certificate\"} 0",
        ] {
            assert!(page.lines().any(|one| one == line), "no {line}\n{page}");
        }
        assert!(page.contains("parhelion_certificate_expiry_timestamp_seconds{use=\"webhook\""), "{page}");
        assert!(!page.contains("parhelion_shed_total") && page.contains("parhelion_build_info"));
    }
}
