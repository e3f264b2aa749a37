//! What options and annotations may say, as Kubernetes reads it: names of objects, images, quantities. Told here, it is told
//! before anything is applied.

/// Suffixes of quantities from thousands on, and the binary ones.
const LARGE: [&str; 13] = ["", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Suffixes of parts of one.
const SMALL: [&str; 3] = ["n", "u", "m"];
/// What a name of an object may have at most.
const LONGEST: usize = 253;

/// An amount of CPU: `100m`, `0.5`, `2`.
///
/// # Errors
/// What it should be.
pub(super) fn cpu(text: &str) -> Result<String, String> {
    match split(text) {
        Some((number, suffix)) if number > 0.0 && (LARGE.contains(&suffix) || SMALL.contains(&suffix)) => {
            Ok(text.to_owned())
        }
        _ => Err("is no amount of CPU: write it as 100m or 0.5".to_owned()),
    }
}

/// An amount of memory: `256Mi`.
///
/// # Errors
/// What it should be.
pub(super) fn memory(text: &str) -> Result<String, String> {
    match split(text) {
        Some((_, suffix)) if SMALL.contains(&suffix) => {
            Err(format!("is a part of a byte for Kubernetes: write {}Mi", text.trim_end_matches(suffix)))
        }
        Some((number, suffix)) if number > 0.0 && LARGE.contains(&suffix) => Ok(text.to_owned()),
        _ => Err("is no amount of memory: write it as 256Mi or 1Gi".to_owned()),
    }
}

/// Number and suffix; `1e6` has none.
fn split(text: &str) -> Option<(f64, &str)> {
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then_some((number, ""));
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// The name of a ConfigMap, a Secret or a claim: letters in lower case, digits, `-` and `.`.
///
/// # Errors
/// What it should be.
pub(super) fn name(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        part.starts_with(inner) && part.ends_with(inner) && part.chars().all(|c| inner(c) || c == '-')
    };
    match text.len() <= LONGEST && text.split('.').all(part) {
        true => Ok(text.to_owned()),
        false => Err("is no name of an object: letters a to z, digits, - and . between them".to_owned()),
    }
}

/// The reference of an image.
///
/// # Errors
/// What it should be.
pub(super) fn image(text: &str) -> Result<String, String> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    match text.is_empty() || text.contains(odd) || text.contains("://") {
        true => Err("is no image: write it as registry.example.org/parhelion:0.1.0".to_owned()),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for good in ["100m", "0.5", "2", "1500u", "1e3", "2k"] {
            assert_eq!(cpu(good).as_deref(), Ok(good));
        }
        for bad in ["", "x", "-1", "0", "1.2.3", "100 m", "m", "1mm", "inf", "NaN", "1core"] {
            assert!(cpu(bad).is_err(), "{bad}");
        }
        for good in ["256Mi", "1Gi", "134217728", "0.5Gi", "1e9", "128M", "64Ki"] {
            assert_eq!(memory(good).as_deref(), Ok(good));
        }
        for bad in ["lots", "256MB", "256mi", "0", "-1Gi", "Mi", ""] {
            assert!(memory(bad).is_err(), "{bad}");
        }
        assert_eq!(memory("256m"), Err("is a part of a byte for Kubernetes: write 256Mi".to_owned()));
    }

    #[test]
    fn names_and_images_are_what_a_cluster_takes() {
        for good in ["parhelion", "a", "a-b.c-1", "0"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", "A", "a b", "-a", "a-", "a..b", ".a", "a_b", &"a".repeat(254)] {
            assert!(name(bad).is_err(), "{bad}");
        }
        for good in ["parhelion:0.1.0", "registry.example.org:5000/x/y@sha256:0a", "localhost/parhelion"] {
            assert_eq!(image(good).as_deref(), Ok(good));
        }
        for bad in ["", " ", "a b", "docker://x/y", "x\n"] {
            assert!(image(bad).is_err(), "{bad}");
        }
    }
}
