//! TLS in the words of the file. Paths are no secrets; what the files hold is never here.

use serde_json::{Map, Value};

use super::put;
use crate::config::{ClientTls, Config, ServerTls};
use crate::tls::name::Pattern;

/// The ports and the collector; none where all are without.
pub(super) fn all(config: &Config) -> Option<Value> {
    let tls = &config.tls;
    let mut map = Map::new();
    for (name, found) in [("listen", &tls.listen), ("admin", &tls.admin), ("health", &tls.health)] {
        put(&mut map, name, found.as_ref().map(|found| server(found)));
    }
    put(&mut map, "collector", config.telemetry.tls.as_ref().map(|found| client(found)));
    (!map.is_empty()).then_some(Value::Object(map))
}

fn server(found: &ServerTls) -> Value {
    let mut map = Map::new();
    map.insert("cert".into(), found.cert.display().to_string().into());
    map.insert("key".into(), found.key.display().to_string().into());
    put(&mut map, "client_ca", found.client_ca.as_ref().map(|path| path.display().to_string()));
    put(&mut map, "allow", patterns(&found.allow));
    Value::Object(map)
}

/// What a server is believed by and shown.
pub(super) fn client(found: &ClientTls) -> Value {
    let mut map = Map::new();
    put(&mut map, "ca", found.ca.as_ref().map(|path| path.display().to_string()));
    if let Some((cert, key)) = &found.pair {
        map.insert("cert".into(), cert.display().to_string().into());
        map.insert("key".into(), key.display().to_string().into());
    }
    put(&mut map, "server_name", found.server_name.as_deref());
    put(&mut map, "allow", patterns(&found.allow));
    Value::Object(map)
}

/// A list of names; none where it is empty.
pub(super) fn patterns(found: &[Pattern]) -> Option<Value> {
    (!found.is_empty()).then(|| found.iter().map(ToString::to_string).collect())
}
