//! The small values of the CASE graph: ids, links, times, hashes.

use serde_json::{Value, json};

use super::material::{ExhibitMaterial, Log};
use super::text;
use crate::digest::{Digest, sha256};

/// A UUID made from a name, so that the same name always gives the same id: laid out as version 5, for UCO knows no
/// later one, from the first bytes of a SHA-256.
pub(super) fn id(kind: &str, name: &str) -> String {
    let hash = sha256(format!("urn:exhibit:custody:1:{kind}\0{name}").as_bytes());
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    uuid::Builder::from_sha1_bytes(bytes).into_uuid().urn().to_string()
}

pub(super) fn link(id: &str) -> Value {
    json!({"@id": id})
}

pub(super) fn time(rfc3339: &str) -> Value {
    json!({"@type": "xsd:dateTime", "@value": text::bounded(rfc3339, 40)})
}

/// The hash of one thing.
pub(super) fn hash(of: &str, digest: &Digest) -> Value {
    json!({
        "@id": id("hash", of),
        "@type": "uco-types:Hash",
        "uco-types:hashMethod": "SHA256",
        "uco-types:hashValue": {"@type": "xsd:hexBinary", "@value": digest.to_string()},
    })
}

pub(super) fn content(of: &str, size: u64, digest: Option<&Digest>) -> Value {
    let mut facet = json!({
        "@id": id("content", of),
        "@type": "uco-observable:ContentDataFacet",
        "uco-observable:sizeInBytes": {"@type": "xsd:integer", "@value": size.to_string()},
    });
    if let (Some(digest), Some(facet)) = (digest, facet.as_object_mut()) {
        facet.insert("uco-observable:hash".to_owned(), hash(of, digest));
    }
    facet
}

pub(super) fn put(node: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(node) = node.as_object_mut() {
        node.insert(name.to_owned(), value.into());
    }
}

pub(super) fn action_id(log: &Log, seq: u64) -> String {
    id("action", &format!("{}\0{seq}", log.origin))
}

pub(super) fn source_id(x: &ExhibitMaterial) -> String {
    id("source", &x.log.origin)
}

pub(super) fn provenance_id(x: &ExhibitMaterial) -> String {
    id("provenance", &x.log.origin)
}
