//! One prediction from end to end: what its caller was told, and what the collector received about it. Pure.

use std::time::Duration;

use super::caller::Answer;
use crate::telemetry::names::attribute;

/// A span as it reached the collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSpan {
    /// Its name.
    pub name: String,
    /// Whether its kind is SERVER: the sidecar's side towards its caller.
    pub server: bool,
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 hexadecimal digits.
    pub span: String,
    /// The span above it; empty where there is none.
    pub parent: String,
    /// Trace and span of each that it links to.
    pub links: Vec<(String, String)>,
    /// End less start.
    pub took: Duration,
    /// In the order they came, values as text.
    pub attributes: Vec<(String, String)>,
}

impl SeenSpan {
    /// Whether it is that of a copy whose call has the span `call`.
    pub fn shadows(&self, call: &SeenSpan) -> bool {
        let shadow = |(key, value): &(String, String)| key == attribute::ROLE && value == "shadow";
        self.attributes.iter().any(shadow)
            && self.links.iter().any(|(trace, span)| *trace == call.trace && *span == call.span)
    }

    /// Whether some attribute has that value.
    pub fn has_value(&self, value: &str) -> bool {
        self.attributes.iter().any(|(_, known)| known == value)
    }
}

/// What is told of one prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    /// What the caller saw.
    pub answer: Answer,
    /// The server span first, then those below it, then its copy's; empty where none was received.
    pub spans: Vec<SeenSpan>,
}

impl Story {
    /// Whether the copy's span is among them.
    pub fn has_shadow(&self) -> bool {
        self.spans.first().is_some_and(|call| self.spans.iter().any(|span| span.shadows(call)))
    }

    /// The story, one line each, without line ends.
    pub fn lines(&self) -> Vec<String> {
        let Answer { prediction, user, variant, version, label, said, .. } = &self.answer;
        let mut lines = vec![
            format!("prediction {prediction}"),
            format!("  unit     x-user-id: {user}"),
            format!("  variant  {variant}, model version {version}"),
            format!("  answer   {said} (the image shows {label})"),
        ];
        if let Some(span) = self.spans.first() {
            lines.push(format!("  trace    {}", span.trace));
        }
        for span in &self.spans {
            let shadow = self.spans.first().is_some_and(|call| span.shadows(call));
            let kind = match (shadow, span.server) {
                (true, _) => "shadow",
                (false, true) => "server",
                (false, false) => "client",
            };
            lines.push(format!(
                "  {kind} span {}  {}  {:.2} ms",
                span.span,
                span.name,
                span.took.as_secs_f64() * 1e3
            ));
            if shadow {
                lines.push(format!("    in a trace of its own, {}, linked to the server span", span.trace));
            }
            lines.extend(span.attributes.iter().map(|(key, value)| format!("    {key} = {value}")));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_leads_from_the_id_to_the_spans() {
        let span = SeenSpan {
            name: "inference.GRPCInferenceService/ModelInfer".into(),
            server: true,
            trace: "ab".repeat(16),
            span: "cd".repeat(8),
            parent: String::new(),
            links: Vec::new(),
            took: Duration::from_micros(1_250),
            attributes: vec![("parhelion.variant".into(), "v2".into())],
        };
        let copy = SeenSpan {
            server: false,
            trace: "ef".repeat(16),
            span: "01".repeat(8),
            links: vec![(span.trace.clone(), span.span.clone())],
            attributes: vec![(attribute::ROLE.into(), "shadow".into())],
            ..span.clone()
        };
        assert!(copy.shadows(&span) && !span.shadows(&copy));
        assert!(!SeenSpan { links: Vec::new(), ..copy.clone() }.shadows(&span));
        let both = Story { answer: Answer::example(), spans: vec![span.clone(), copy] };
        let text = both.lines().join("\n");
        for part in [&format!("shadow span {}", "01".repeat(8)), &format!("own, {}, linked", "ef".repeat(16))]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let story = Story { answer: Answer::example(), spans: vec![span] };
        assert!(both.has_shadow() && !story.has_shadow());
        let text = story.lines().join("\n");
        for part in ["prediction p-1", "user-1", "v2, model version 2.0.0", &"ab".repeat(16), "1.25 ms"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.ends_with("    parhelion.variant = v2"));
        assert_eq!(Story { spans: Vec::new(), ..story }.lines().len(), 4);
    }
}
