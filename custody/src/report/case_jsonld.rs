//! The report in CASE 1.4 (on UCO 1.4), as JSON-LD: every entry an `InvestigativeAction`.
//!
//! What CASE has no words for (place in the log, chain, leaf, checkpoint) stands in facets of our own under
//! `urn:exhibit:custody:1:`, which the graph itself declares as subclasses of `uco-core:Facet`. Ids are made from the
//! log's origin and the number of the entry, so the same case gives the same graph.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::case_nodes::{action_id, content, hash, id, link, provenance_id, put, source_id, time};
use super::material::{ExhibitMaterial, Log, Material};
use super::text;
use crate::bundle::Stream;
use crate::entry::{Entry, EntryType};
use crate::error::{Error, Result};

/// Entries of one log that become actions; the rest are counted in the investigation's description.
const MOST_ACTIONS: usize = 10_000;

/// Everything in one graph.
pub(super) fn render(m: &Material) -> Result<String> {
    let mut graph = Graph { m, shared: BTreeMap::new(), nodes: Vec::new() };
    graph.ontology();
    graph.exhibits();
    graph.logs();
    graph.investigation();
    let Graph { shared, mut nodes, .. } = graph;
    nodes.extend(shared.into_values());
    let document = json!({
        "@context": {
            "case-investigation": "https://ontology.caseontology.org/case/investigation/",
            "exhibit": "urn:exhibit:custody:1:",
            "owl": "http://www.w3.org/2002/07/owl#",
            "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
            "uco-action": "https://ontology.unifiedcyberontology.org/uco/action/",
            "uco-core": "https://ontology.unifiedcyberontology.org/uco/core/",
            "uco-identity": "https://ontology.unifiedcyberontology.org/uco/identity/",
            "uco-location": "https://ontology.unifiedcyberontology.org/uco/location/",
            "uco-observable": "https://ontology.unifiedcyberontology.org/uco/observable/",
            "uco-tool": "https://ontology.unifiedcyberontology.org/uco/tool/",
            "uco-types": "https://ontology.unifiedcyberontology.org/uco/types/",
            "xsd": "http://www.w3.org/2001/XMLSchema#",
        },
        "@graph": nodes,
    });
    serde_json::to_string(&document).map_err(|error| Error::malformed("CASE graph", error.to_string()))
}

struct Graph<'a> {
    m: &'a Material,
    /// People, tools and places, each once.
    shared: BTreeMap<String, Value>,
    nodes: Vec<Value>,
}

impl Graph<'_> {
    /// Our own facets, said in the graph itself.
    fn ontology(&mut self) {
        for (name, words) in [
            (
                "CustodyEntryFacet",
                "An entry of a custody log: its number, the hash of the entry before it, its type and log.",
            ),
            (
                "CustodyLogFacet",
                "A custody log: its origin, the number of entries, the RFC 6962 root over them, and the signed checkpoint.",
            ),
        ] {
            self.nodes.push(json!({
                "@id": format!("exhibit:{name}"),
                "@type": "owl:Class",
                "rdfs:comment": {"@language": "en", "@value": words},
                "rdfs:label": {"@language": "en", "@value": name},
                "rdfs:subClassOf": link("uco-core:Facet"),
            }));
        }
    }

    fn identity(&mut self, entry: &Entry) -> Value {
        let actor = &entry.actor;
        let name = if actor.name.is_empty() { &actor.key } else { &actor.name };
        let id = id("identity", &[&*actor.name, &actor.role, &actor.org, &actor.key].join("\0"));
        self.shared.entry(id.clone()).or_insert_with(|| {
            let about = [("role", &actor.role), ("organisation", &actor.org), ("key", &actor.key)];
            let about: Vec<String> = about
                .into_iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(label, text)| format!("{label}: {}", text::cell(text)))
                .collect();
            json!({
                "@id": id,
                "@type": "uco-identity:Identity",
                "uco-core:description": about.join("; "),
                "uco-core:name": text::cell(name),
            })
        });
        link(&id)
    }

    fn tool(&mut self, entry: &Entry) -> Value {
        let tool = &entry.tool;
        let build = tool.build_sha256.map(|build| build.to_string()).unwrap_or_default();
        let id = id("tool", &[&*tool.name, &tool.version, &build].join("\0"));
        self.shared.entry(id.clone()).or_insert_with(|| {
            let mut node = json!({
                "@id": id,
                "@type": "uco-tool:Tool",
                "uco-core:name": text::cell(&tool.name),
                "uco-tool:version": text::cell(&tool.version),
            });
            if let Some(build) = &tool.build_sha256 {
                let facet = json!({
                    "@id": self::id("build", &build.to_string()),
                    "@type": "uco-observable:ContentDataFacet",
                    "uco-observable:hash": hash(&id, build),
                });
                put(&mut node, "uco-core:hasFacet", facet);
            }
            node
        });
        link(&id)
    }

    fn place(&mut self, entry: &Entry) -> Option<Value> {
        let host = &entry.host;
        if host.name.is_empty() && host.machine.is_empty() {
            return None;
        }
        let id = id("location", &[&*host.name, &host.machine].join("\0"));
        self.shared.entry(id.clone()).or_insert_with(|| {
            json!({
                "@id": id,
                "@type": "uco-location:Location",
                "uco-core:description": format!("machine {}; {}", text::cell(&host.machine), text::cell(&host.os)),
                "uco-core:name": text::cell(&host.name),
            })
        });
        Some(link(&id))
    }

    /// Sources, copies and provenance of the exhibits.
    fn exhibits(&mut self) {
        for x in &self.m.exhibits {
            let Some(manifest) = &x.manifest else { continue };
            let source = source_id(x);
            let mut facets = Vec::new();
            if let Some(size) = manifest.source.size {
                facets.push(content(&source, size, None));
            }
            if manifest.source.model.is_some() || manifest.source.serial.is_some() {
                let mut device = json!({"@id": id("device", &source), "@type": "uco-observable:DeviceFacet"});
                if let Some(model) = &manifest.source.model {
                    put(&mut device, "uco-observable:model", text::cell(model));
                }
                if let Some(serial) = &manifest.source.serial {
                    put(&mut device, "uco-observable:serialNumber", text::cell(serial));
                }
                facets.push(device);
            }
            let mut node = json!({
                "@id": source,
                "@type": "uco-observable:ObservableObject",
                "uco-core:name": text::cell(manifest.source.path.as_deref().unwrap_or("source")),
                "uco-core:description": format!("source of {}, of kind {}", x.id, text::cell(&manifest.source.kind)),
            });
            if !facets.is_empty() {
                put(&mut node, "uco-core:hasFacet", facets);
            }
            self.nodes.push(node);
            let copies: Vec<Value> =
                manifest.streams.iter().map(|stream| self.copy(x, stream, &source)).collect();
            self.nodes.push(json!({
                "@id": provenance_id(x),
                "@type": "case-investigation:ProvenanceRecord",
                "case-investigation:exhibitNumber": x.id,
                "case-investigation:rootExhibitNumber": x.id,
                "uco-core:description": format!("bundle {}, manifest SHA-256 {}", x.name(), x.manifest_sha256.map(|hash| hash.to_string()).unwrap_or_default()),
                "uco-core:object": copies,
            }));
        }
    }

    /// A stream of an exhibit; gives a link to it.
    fn copy(&mut self, x: &ExhibitMaterial, stream: &Stream, source: &str) -> Value {
        let id = id("stream", &format!("{}\0{}", x.log.origin, stream.name));
        self.nodes.push(json!({
            "@id": id,
            "@type": "uco-observable:ObservableObject",
            "case-investigation:wasDerivedFrom": link(source),
            "uco-core:hasFacet": content(&id, stream.size, Some(&stream.sha256)),
            "uco-core:name": format!("{}, stream {}", x.id, stream.name),
        }));
        link(&id)
    }

    fn logs(&mut self) {
        let m = self.m;
        for log in m.logs() {
            if let Some(root) = log.root() {
                let own = id("log", &log.origin);
                self.nodes.push(json!({
                    "@id": own,
                    "@type": "uco-observable:ObservableObject",
                    "uco-core:hasFacet": {
                        "@id": id("log-facet", &log.origin),
                        "@type": ["exhibit:CustodyLogFacet", "uco-core:Facet"],
                        "exhibit:checkpoint": log.head.as_ref().map(|head| head.note.to_text()).unwrap_or_default(),
                        "exhibit:origin": log.origin,
                        "exhibit:root": {"@type": "xsd:hexBinary", "@value": root.to_string()},
                        "exhibit:size": {"@type": "xsd:integer", "@value": log.size().to_string()},
                    },
                    "uco-core:name": format!("custody log of {}", log.title()),
                }));
            }
            let exhibit = m.exhibits.iter().find(|x| x.log.name == log.name);
            let mut before = None;
            for entry in log.entries.iter().take(MOST_ACTIONS) {
                let own = action_id(log, entry.seq);
                let node = self.action(log, entry, exhibit, before.replace(own));
                self.nodes.push(node);
            }
        }
    }

    fn action(
        &mut self,
        log: &Log,
        entry: &Entry,
        own: Option<&ExhibitMaterial>,
        before: Option<String>,
    ) -> Value {
        let of_case = || self.m.exhibits.iter().find(|x| entry.about.exhibit.as_deref() == Some(&x.id));
        let exhibit = own.or_else(of_case);
        let begun = entry.about.refs.first().filter(|_| entry.kind == EntryType::ACQUIRE_END);
        let begun = begun.and_then(|seq| log.entries.iter().find(|begun| begun.seq == *seq)).unwrap_or(entry);
        let mut node = json!({
            "@id": action_id(log, entry.seq),
            "@type": "case-investigation:InvestigativeAction",
            "uco-action:endTime": time(&entry.time.wall),
            "uco-action:instrument": self.tool(entry),
            "uco-action:performer": self.identity(entry),
            "uco-action:startTime": time(&begun.time.wall),
            "uco-core:description": text::long(&super::words::told(entry)),
            "uco-core:hasFacet": {
                "@id": id("entry", &format!("{}\0{}", log.origin, entry.seq)),
                "@type": ["exhibit:CustodyEntryFacet", "uco-core:Facet"],
                "exhibit:entryId": text::bounded(&entry.id, 64),
                "exhibit:entryType": text::bounded(entry.kind.as_str(), 64),
                "exhibit:log": log.origin,
                "exhibit:prev": {"@type": "xsd:hexBinary", "@value": entry.prev.to_string()},
                "exhibit:seq": {"@type": "xsd:integer", "@value": entry.seq.to_string()},
            },
            "uco-core:name": format!("{} {}", text::bounded(super::words::act(&entry.kind), 64), log.cite(entry.seq)),
        });
        if let Some(place) = self.place(entry) {
            put(&mut node, "uco-action:location", place);
        }
        if let Some(before) = before {
            put(&mut node, "case-investigation:wasInformedBy", link(&before));
        }
        if let Some(x) = exhibit.filter(|x| x.manifest.is_some()) {
            let source = [EntryType::ACQUIRE_START, EntryType::ACQUIRE_END].contains(&entry.kind);
            let object = if source { source_id(x) } else { provenance_id(x) };
            put(&mut node, "uco-action:object", link(&object));
            if [EntryType::ACQUIRE_END, EntryType::BUNDLE_SEALED, EntryType::EXHIBIT_ADDED]
                .contains(&entry.kind)
            {
                put(&mut node, "uco-action:result", link(&provenance_id(x)));
            }
        }
        let made = [EntryType::COPY_MADE, EntryType::EXPORT_MADE, EntryType::DISCLOSURE_MADE];
        if made.contains(&entry.kind) {
            let results = self.results(log, entry, exhibit);
            if !results.is_empty() {
                put(&mut node, "uco-action:result", results);
            }
        }
        node
    }

    /// What a copy or export brought forth, derived from its exhibit.
    fn results(&mut self, log: &Log, entry: &Entry, exhibit: Option<&ExhibitMaterial>) -> Vec<Value> {
        let mut results = Vec::new();
        for (at, subject) in entry.about.subject.iter().take(100).enumerate() {
            let own = id("result", &format!("{}\0{}\0{at}", log.origin, entry.seq));
            let mut node = json!({
                "@id": own,
                "@type": "uco-observable:ObservableObject",
                "uco-core:hasFacet": content(&own, subject.size.unwrap_or_default(), subject.sha256.as_ref()),
                "uco-core:name": text::cell(&subject.id),
            });
            if let Some(x) = exhibit.filter(|x| x.manifest.is_some()) {
                put(&mut node, "case-investigation:wasDerivedFrom", link(&provenance_id(x)));
            }
            self.nodes.push(node);
            results.push(link(&own));
        }
        results
    }

    fn investigation(&mut self) {
        let case = &self.m.case;
        let more: usize = self.m.logs().map(|log| log.entries.len().saturating_sub(MOST_ACTIONS)).sum();
        let more =
            if more > 0 { format!("; {more} more entries are in custody.jsonl") } else { String::new() };
        let mut node = Map::from_iter([
            ("@id".to_owned(), id("investigation", &self.m.log.origin).into()),
            ("@type".to_owned(), "case-investigation:Investigation".into()),
            ("uco-core:name".to_owned(), text::cell(&case.name).into()),
            (
                "uco-core:description".to_owned(),
                format!("case {}, verdict {}{more}", text::cell(&case.id), self.m.verification.verdict)
                    .into(),
            ),
        ]);
        if !case.authority.is_empty() {
            let own = id("authorization", &self.m.log.origin);
            self.nodes.push(json!({
                "@id": own,
                "@type": "case-investigation:Authorization",
                "case-investigation:authorizationIdentifier": [text::cell(&case.authority)],
                "uco-core:name": text::cell(&case.authority),
            }));
            node.insert("case-investigation:relevantAuthorization".to_owned(), link(&own));
        }
        let objects: Vec<Value> = self
            .nodes
            .iter()
            .filter(|node| node.get("@type").and_then(Value::as_str) != Some("owl:Class"))
            .filter_map(|node| Some(link(node.get("@id")?.as_str()?)))
            .collect();
        node.insert("uco-core:object".to_owned(), objects.into());
        self.nodes.push(Value::Object(node));
    }
}
