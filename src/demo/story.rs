//! One prediction from end to end: what its caller was told, and what the collector received about it. Pure.

use std::time::Duration;

use super::caller::Answer;

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
    /// End less start.
    pub took: Duration,
    /// In the order they came, values as text.
    pub attributes: Vec<(String, String)>,
}

impl SeenSpan {
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
    /// The server span first, then those below it; empty where none was received.
    pub spans: Vec<SeenSpan>,
}

impl Story {
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
            let kind = if span.server { "server" } else { "client" };
            lines.push(format!(
                "  {kind} span {}  {}  {:.2} ms",
                span.span,
                span.name,
                span.took.as_secs_f64() * 1e3
            ));
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
            took: Duration::from_micros(1_250),
            attributes: vec![("parhelion.variant".into(), "v2".into())],
        };
        let story = Story { answer: Answer::example(), spans: vec![span] };
        let text = story.lines().join("\n");
        for part in ["prediction p-1", "user-1", "v2, model version 2.0.0", &"ab".repeat(16), "1.25 ms"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.ends_with("    parhelion.variant = v2"));
        assert_eq!(Story { spans: Vec::new(), ..story }.lines().len(), 4);
    }
}
