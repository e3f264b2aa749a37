//! Names that certificates are known by, and patterns of names that are let in. Pure.
//!
//! A certificate has DNS names and URIs. Of the URIs only SPIFFE ids mean anything here, and a certificate with two
//! URIs has none, as SPIFFE asks: which of them would it be?

use std::fmt;
use std::sync::Arc;

/// What a certificate says its holder is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// In lower case.
    pub dns: Vec<String>,
    /// All URIs.
    pub uris: Vec<String>,
}

/// A name that is let in, or all names below one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

const SPIFFE: &str = "spiffe://";

impl Names {
    /// The SPIFFE id, where there is one.
    pub fn spiffe(&self) -> Option<&str> {
        match &self.uris[..] {
            [only] if only.starts_with(SPIFFE) => Some(only),
            _ => None,
        }
    }

    /// What people call it: the SPIFFE id, else the first DNS name.
    pub fn shown(&self) -> &str {
        self.spiffe().or(self.dns.first().map(String::as_str)).unwrap_or("without a name")
    }
}

impl Pattern {
    /// Reads `spiffe://DOMAIN/PATH`, `spiffe://DOMAIN/PATH/*`, a DNS name, or `*.` before one.
    ///
    /// # Errors
    /// What would be right, for people.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(rest) = text.strip_prefix(SPIFFE) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
            let (domain, path) = rest.split_once('/').unwrap_or((rest, "*"));
            let path = path.strip_suffix('*').unwrap_or(path);
            let good = rest.contains('/')
                && !domain.is_empty()
                && !domain.chars().any(|c| c.is_ascii_uppercase())
                && rest.trim_end_matches('*').chars().all(plain)
                && !path.contains('*')
                && !rest.contains("//")
                && (rest.ends_with("/*") || !path.is_empty() && !rest.ends_with(['*', '/']));
            return match good {
                true => Ok(Pattern(text.into())),
                false => Err("write spiffe://DOMAIN/PATH, or spiffe://DOMAIN/PATH/* for all below it"),
            };
        }
        let host = text.strip_prefix("*.").unwrap_or(text);
        let label = |label: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !label.is_empty() && label.len() <= 63 && label.chars().all(plain)
        };
        match host.len() <= 253 && host.split('.').all(label) {
            true => Ok(Pattern(text.to_ascii_lowercase().into())),
            false => {
                Err("write a name of a certificate: spiffe://DOMAIN/PATH, or a DNS name like web.shop.svc")
            }
        }
    }

    /// Whether one of the names is this, or below it.
    pub fn matches(&self, names: &Names) -> bool {
        if self.0.starts_with(SPIFFE) {
            return names.spiffe().is_some_and(|id| match self.0.strip_suffix('*') {
                Some(above) => id.len() > above.len() && id.starts_with(above),
                None => id == &*self.0,
            });
        }
        names.dns.iter().any(|name| match self.0.strip_prefix('*') {
            // One label in the place of the star, as in certificates.
            Some(below) => {
                name.strip_suffix(below).is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
            None => *name == *self.0,
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dns: &[&str], uris: &[&str]) -> Names {
        let all = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        Names { dns: all(dns), uris: all(uris) }
    }

    #[test]
    fn patterns_let_in_what_they_name_and_nothing_beside() {
        let web = "spiffe://shop.example/ns/shop/sa/web";
        for (pattern, dns, uris, good) in [
            (web, &[][..], &[web][..], true),
            (web, &[], &["spiffe://shop.example/ns/shop/sa/web2"], false),
            (web, &[], &[web, "https://x"], false),
            (web, &["spiffe://shop.example/ns/shop/sa/web"], &[], false),
            ("spiffe://shop.example/ns/shop/*", &[], &[web], true),
            ("spiffe://shop.example/ns/shop/*", &[], &["spiffe://shop.example/ns/shop/"], false),
            ("spiffe://shop.example/ns/shop/*", &[], &["spiffe://shop.example/ns/shopping/sa/web"], false),
            ("spiffe://shop.example/*", &[], &["spiffe://shop.example.evil/ns"], false),
            ("web.shop.svc", &["api.shop.svc", "web.shop.svc"], &[], true),
            ("WEB.shop.svc", &["web.shop.svc"], &[], true),
            ("web.shop.svc", &["evil-web.shop.svc"], &[], false),
            ("*.shop.svc", &["web.shop.svc"], &[], true),
            ("*.shop.svc", &["a.web.shop.svc"], &[], false),
            ("*.shop.svc", &["shop.svc"], &[], false),
            ("*.shop.svc", &[".shop.svc"], &[], false),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().matches(&names(dns, uris)),
                good,
                "{pattern} {dns:?} {uris:?}"
            );
        }
    }

    #[test]
    fn what_could_let_in_more_than_is_meant_is_no_pattern() {
        for bad in [
            "",
            "*",
            "*.",
            "a..b",
            "web.*",
            "w*b.svc",
            "spiffe://",
            "spiffe://*",
            "spiffe://a",
            "spiffe://a/",
            "spiffe://a/b*",
            "spiffe:///b",
            "spiffe://A/b",
            "spiffe://a/*/b",
            "spiffe://a//b",
            "spiffe://a/b/",
            "https://a/b",
            "web.svc:80",
            "spiffe://a/b?c",
        ] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_shown_by_its_best_name() {
        assert_eq!(names(&["a"], &["spiffe://d/p"]).shown(), "spiffe://d/p");
        assert_eq!(names(&["a"], &["x://1", "x://2"]).shown(), "a");
        assert_eq!(Names::default().shown(), "without a name");
    }
}
