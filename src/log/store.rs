//! The object store of `log.upload`, by its URL: S3, Google Cloud Storage, Azure Blob Storage or a folder.
//!
//! Secrets are in the environment, never in the file: the variables that each provider's own tools read
//! (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME` and
//! their kin), and the identity of the pod where there are none.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreScheme, PutMode, PutOptions};
use url::Url;

use crate::causes::chain;

/// What variables of the environment are about stores.
const PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// Where files are put.
pub(super) trait Store: Send {
    /// Puts `bytes` under `name`, unless there is something of that name: then that stays, and all is well.
    ///
    /// # Errors
    /// In words: why it is not there.
    fn put(&mut self, name: &str, bytes: Bytes) -> impl Future<Output = Result<(), String>>;
}

/// A place in a store.
#[derive(Debug, Clone)]
pub struct Place {
    /// The bucket, container or file system.
    pub store: Arc<dyn ObjectStore>,
    /// What stands before every name.
    pub prefix: Path,
    /// Where the store cannot put only what is not there: then what is there has the same name and the same bytes.
    overwrites: bool,
}

impl Store for Place {
    async fn put(&mut self, name: &str, bytes: Bytes) -> Result<(), String> {
        let name = Path::parse(format!("{}/{name}", self.prefix)).map_err(|error| error.to_string())?;
        loop {
            let mode = if self.overwrites { PutMode::Overwrite } else { PutMode::Create };
            let answer = self.store.put_opts(&name, bytes.clone().into(), PutOptions::from(mode)).await;
            return match answer {
                Ok(_) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) if !self.overwrites => {
                    self.overwrites = true;
                    continue;
                }
                Err(error) => Err(chain(&error)),
            };
        }
    }
}

/// Whether `text` names a store that this program knows; else what is wrong with it.
///
/// # Errors
/// In words, for people.
pub fn check(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a secret".to_owned());
    }
    match ObjectStoreScheme::parse(&url) {
        Ok((ObjectStoreScheme::Memory | ObjectStoreScheme::Http, _)) | Err(_) => {
            Err("names no object store".to_owned())
        }
        Ok(_) => Ok(url),
    }
}

/// The place that `text` names, with what the environment says about it.
///
/// # Errors
/// In words: what is missing or wrong. Whether the store is there and lets us in only its answers say.
pub fn open(text: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Place, String> {
    let url = check(text)?;
    // Nobody else in this process has chosen one yet, or it is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let known = environment.filter(|(name, _)| PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
    // Where a variable points to an endpoint without TLS, that is meant.
    let mut options: Vec<(String, String)> = known.collect();
    if options.iter().any(|(name, value)| name.contains("ENDPOINT") && value.starts_with("http://")) {
        options.push(("allow_http".to_owned(), "true".to_owned()));
    }
    let (store, prefix) = object_store::parse_url_opts(&url, options).map_err(|error| error.to_string())?;
    Ok(Place { store: store.into(), prefix, overwrites: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_known_by_their_urls() {
        for good in ["s3://bucket/a/b", "gs://bucket", "az://container/x", "file:///var/archive"] {
            check(good).unwrap_or_else(|wrong| panic!("{good} {wrong}"));
        }
        for (bad, wrong) in [
            ("bucket/prefix", "no URL"),
            ("ftp://host/x", "no object store"),
            ("memory:///", "no object store"),
            ("http://host/x", "no object store"),
            ("s3://key:secret@bucket", "a secret"),
        ] {
            let said = check(bad).unwrap_err();
            assert!(said.contains(wrong), "{bad} {said}");
        }
    }

    #[test]
    fn what_the_environment_says_counts_and_nothing_else_of_it() {
        let environment =
            [("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), ("AWS_REGION", "eu-west-1"), ("HOME", "/root")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let place = open("s3://bucket/a/b", environment.into_iter()).unwrap();
        assert_eq!(place.prefix.as_ref(), "a/b");
        assert!(open("s3://", std::iter::empty()).is_err());
    }

    #[tokio::test]
    async fn a_folder_is_a_store_too_and_what_is_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let mut place = open(&format!("file://{}", root.path().display()), std::iter::empty()).unwrap();
        let name = "predictions/model=a%2Fb/date=2026-11-29/hour=07/x.parquet";
        for bytes in ["first", "second"] {
            place.put(name, Bytes::from_static(bytes.as_bytes())).await.unwrap();
        }
        assert_eq!(std::fs::read_to_string(root.path().join(name)).unwrap(), "first");
    }
}
