//! Reference values of published implementations and of independent formulas, for tests alone.
//! A case that is asked for must be there; a value outside the case's own tolerance fails the test.

use serde_json::Value;

pub(crate) struct Case {
    value: Value,
}

impl Case {
    pub(crate) fn named(id: &str) -> Self {
        let file: Value = serde_json::from_str(include_str!("../../tests/data/oracles.json")).unwrap();
        let found = file["cases"].as_array().unwrap().iter().find(|case| case["id"] == id);
        Self { value: found.unwrap_or_else(|| panic!("no case {id}")).clone() }
    }

    pub(crate) fn input(&self) -> &Value {
        &self.value["input"]
    }

    pub(crate) fn expected(&self) -> &Value {
        &self.value["expected"]
    }

    /// The rows of an expected list.
    pub(crate) fn rows(&self) -> &[Value] {
        let rows = self.expected().as_array().unwrap();
        assert!(!rows.is_empty());
        rows
    }

    /// Holds `got` to `want` within the tolerance of the case.
    pub(crate) fn check(&self, got: f64, want: &Value) {
        let want = number(want);
        let tolerance = number(&self.value["tolerance"]);
        let allowed = match self.value["tolerance_kind"].as_str().unwrap() {
            "rel" => tolerance * want.abs(),
            "abs" => tolerance,
            kind => panic!("no number to compare with kind {kind}"),
        };
        assert!((got - want).abs() <= allowed, "{}: {got} instead of {want} ± {allowed:e}", self.value["id"]);
    }
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

pub(crate) fn counts(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect()
}
