//! A Kubernetes API server, recorded: what is asked of it, what it answers, and what becomes of a pod.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use respond::alert::AssetKind;
use respond::steps::named;
use respond::targets::kubernetes::{Cluster, ClusterSettings, Patch, Resource};
use serde_json::{Value, json};

use crate::bench::{Bench, program};
use crate::runc_box::RuncBox;
use crate::sshd::Sshd;

const TOKEN: &str = "eyJ-a-token-of-a-service-account";

/// One request as it came.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    path: String,
    head: String,
    body: String,
}

type Answers = BTreeMap<String, (u16, String)>;

/// A server that answers each `METHOD PATH` as it was told, and 404 all else; it ends with the tests.
#[derive(Clone)]
struct Recorded {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Recorded {
    fn start(answers: &[(&str, u16, String)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answers: Answers = answers
            .iter()
            .map(|(what, status, body)| ((*what).to_owned(), (*status, body.clone())))
            .collect();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let this = Self { address, asked };
        let kept = Arc::clone(&this.asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), answers, kept) = (stream, answers.clone(), Arc::clone(&kept)) else {
                    return;
                };
                thread::spawn(move || serve(stream, &answers, &kept));
            }
        });
        this
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn settings(&self) -> ClusterSettings {
        serde_json::from_value(json!({"server": self.address})).unwrap()
    }

    fn cluster(&self) -> Cluster {
        Cluster::open("prod", &self.settings()).unwrap()
    }
}

/// Reads one request. `None` at the end of the connection.
fn request(stream: &mut impl Read) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Asked { method, path, body: String::from_utf8(body).unwrap(), head: head.clone() })
}

fn serve(mut stream: TcpStream, answers: &Answers, kept: &Mutex<Vec<Asked>>) {
    while let Some(asked) = request(&mut stream) {
        let missing =
            (404, json!({"kind": "Status", "reason": "NotFound", "message": "no such thing"}).to_string());
        let (status, body) =
            answers.get(&format!("{} {}", asked.method, asked.path)).cloned().unwrap_or(missing);
        kept.lock().unwrap().push(asked);
        let more = if status == 302 { "Location: http://169.254.169.254/\r\n" } else { "" };
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn each_verb_is_sent_as_it_is_meant_and_lists_are_read_page_by_page() {
    let server = Recorded::start(&[
        (
            "GET /api/v1/x?limit=250",
            200,
            json!({"items": [1, 2], "metadata": {"continue": "a=/b"}}).to_string(),
        ),
        ("GET /api/v1/x?limit=250&continue=a%3D%2Fb", 200, json!({"items": [3]}).to_string()),
        (
            "GET /api/v1/y?a=b&limit=250",
            200,
            json!({"items": [1], "metadata": {"continue": "gone"}}).to_string(),
        ),
        ("GET /api/v1/y?a=b&limit=250&continue=gone", 410, json!({"reason": "Expired"}).to_string()),
        ("GET /api/v1/z?limit=250", 200, json!({"items": [1], "metadata": {"continue": "same"}}).to_string()),
        (
            "GET /api/v1/z?limit=250&continue=same",
            200,
            json!({"items": [1], "metadata": {"continue": "same"}}).to_string(),
        ),
        ("POST /api/v1/x", 201, "{}".to_owned()),
        ("PATCH /api/v1/x/1", 200, "{}".to_owned()),
        ("DELETE /api/v1/x/1", 200, "{}".to_owned()),
        ("DELETE /api/v1/x/2", 200, "{}".to_owned()),
    ]);
    let cluster = server.cluster();
    assert_eq!(cluster.list("/api/v1/x").unwrap().items, [1, 2, 3]);
    let cut = cluster.list("/api/v1/y?a=b").unwrap();
    assert!(cut.items.len() == 1 && cut.cut.unwrap().contains("ends after 1"));
    assert!(cluster.list("/api/v1/z").unwrap().cut.is_some(), "a list without an end is cut");
    cluster.post("/api/v1/x", &json!({"a": 1})).unwrap();
    cluster.patch("/api/v1/x/1", Patch::Json, &json!([{"op": "test"}])).unwrap();
    cluster.delete("/api/v1/x/1", &json!({"gracePeriodSeconds": 0})).unwrap();
    cluster.delete("/api/v1/x/2", &Value::Null).unwrap();
    let asked = server.asked();
    let told = |method: &str| asked.iter().filter(|asked| asked.method == method).collect::<Vec<_>>();
    assert_eq!(told("POST")[0].body, "{\"a\":1}");
    assert!(told("PATCH")[0].head.contains("application/json-patch+json"));
    assert_eq!(
        (told("DELETE")[0].body.as_str(), told("DELETE")[1].body.as_str()),
        ("{\"gracePeriodSeconds\":0}", "")
    );
}

#[test]
fn what_we_may_do_is_asked_of_the_server_itself() {
    let path = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (answer, expected) in [
        (json!({"status": {"allowed": true}}), Some(true)),
        (json!({"status": {"allowed": false}}), Some(false)),
        (json!({}), None),
    ] {
        let server = Recorded::start(&[(path, 201, answer.to_string())]);
        let what = Resource { resource: "pods", subresource: "log", namespace: "web", ..Resource::default() };
        assert_eq!(server.cluster().may("get", what).ok(), expected);
        let body: Value = serde_json::from_str(&server.asked()[0].body).unwrap();
        assert_eq!(body["spec"]["resourceAttributes"]["subresource"], "log");
    }
}

#[test]
fn the_token_is_read_anew_each_time_and_stands_in_no_error_and_no_debug_output() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let server = Recorded::start(&[
        ("GET /a", 403, json!({"message": format!("not you, {}", "x".repeat(5000))}).to_string()),
        ("GET /b", 302, String::new()),
    ]);
    let mut settings = server.settings();
    settings.token_file = Some(file.clone());
    let cluster = Cluster::open("prod", &settings).unwrap();
    let refusal = cluster.get("/a").unwrap_err();
    assert!(refusal.is_denied() && refusal.to_string().len() < 700);
    let moved = cluster.get("/b").unwrap_err();
    assert_eq!(moved.status, Some(302), "a redirect is not followed");
    fs::write(&file, "another").unwrap();
    let _ = cluster.get("/a");
    let heads: Vec<_> = server.asked().into_iter().map(|asked| asked.head).collect();
    assert!(heads[0].contains(&format!("Bearer {TOKEN}")) && heads[2].contains("Bearer another"));
    for text in [format!("{cluster:?}{settings:?}"), refusal.to_string(), moved.to_string()] {
        assert!(!text.contains(TOKEN), "{text}");
    }
    for bad in ["", "two words", "a\r\nX: y"] {
        fs::write(&file, bad).unwrap();
        assert!(cluster.get("/a").unwrap_err().to_string().contains("holds no token"), "{bad:?}");
    }
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn a_server_that_never_answers_holds_nobody_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings: ClusterSettings = serde_json::from_value(
        json!({"server": format!("http://{}", listener.local_addr().unwrap()), "patience": 1}),
    )
    .unwrap();
    let begun = Instant::now();
    let refusal = Cluster::open("prod", &settings).unwrap().get("/api").unwrap_err();
    assert!(refusal.may_pass && refusal.status.is_none(), "{refusal:?}");
    assert!(begun.elapsed() < Duration::from_secs(120));
}

#[test]
fn only_a_server_that_the_given_authority_vouches_for_is_spoken_to() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("ca.pem"), made.cert.pem()).unwrap();
    fs::write(path("other.pem"), other.cert.pem()).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            if request(&mut stream).is_some() {
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
                let _ = stream.flush();
            }
        }
    });
    let open = |ca: Option<&str>| {
        let settings =
            json!({"server": format!("https://localhost:{port}"), "ca_file": ca.map(path), "patience": 60});
        Cluster::open("prod", &serde_json::from_value(settings).unwrap()).unwrap()
    };
    assert_eq!(open(Some("ca.pem")).get("/api").unwrap(), json!({}));
    for wrong in [Some("other.pem"), None] {
        let refusal = open(wrong).get("/api").unwrap_err();
        assert!(refusal.to_string().contains("could not prove by TLS") && !refusal.may_pass, "{refusal:?}");
    }
}

/// What a server knows of one pod of two containers, one of which has restarted.
fn pod_answers(id: &str, node: &str) -> Vec<(&'static str, u16, String)> {
    let pod = json!({
        "metadata": {"name": "shop-7d9", "uid": "u-1", "ownerReferences": [{"kind": "ReplicaSet", "name": "shop", "controller": true}]},
        "spec": {"nodeName": node, "serviceAccountName": "shop"},
        "status": {"containerStatuses": [
            {"name": "shop", "containerID": format!("containerd://{id}"), "state": {"running": {}}, "restartCount": 1},
            {"name": "waits", "state": {"waiting": {}}},
        ]},
    });
    let log = "/api/v1/namespaces/web/pods/shop-7d9/log";
    let end = "container=shop&timestamps=true&limitBytes=67108864";
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    vec![
        ("GET /api/v1/namespaces/web/pods/shop-7d9", 200, pod.to_string()),
        (leak(format!("GET {log}?previous=true&{end}")), 200, "2026-11-21T00:00:00Z before\n".to_owned()),
        (leak(format!("GET {log}?{end}")), 200, "2026-11-21T00:00:01Z now\n".to_owned()),
        (
            "GET /api/v1/namespaces/web/events?fieldSelector=involvedObject.name%3Dshop-7d9%2CinvolvedObject.uid%3Du-1&limit=250",
            200,
            json!({"items": [{"reason": "BackOff"}]}).to_string(),
        ),
        ("GET /api/v1/nodes/node-1", 200, json!({"metadata": {"name": "node-1"}, "spec": {}}).to_string()),
        ("PATCH /api/v1/nodes/node-1", 200, "{}".to_owned()),
        ("GET /apis/apps/v1/namespaces/web/replicasets/shop", 200, json!({"kind": "ReplicaSet"}).to_string()),
        (
            "GET /api/v1/namespaces/web/serviceaccounts/shop",
            403,
            json!({"kind": "Status", "reason": "Forbidden", "message": "serviceaccounts is forbidden"})
                .to_string(),
        ),
    ]
}

const POD: (AssetKind, &str, &str) = (AssetKind::K8sPod, "prod/web/shop-7d9", "");

#[test]
fn a_pod_whose_node_is_not_reached_gives_what_the_api_tells_and_says_that_this_is_all() {
    let Some(program) = program() else { return };
    let server = Recorded::start(&pod_answers(&"0".repeat(64), "node-1"));
    let bench = Bench::new(program, |_| json!({"kubernetes": {"prod": {"server": server.address}}}));
    let told = bench.run("capture.k8s_pod", "pod", POD, json!({})).unwrap();
    assert!(told["containers"].as_str().unwrap().contains("no way to node node-1"), "{told}");
    assert_eq!(told["left_out"].as_array().unwrap().len(), 3);
    let refused = told["api"]["not_taken"].to_string();
    assert!(
        refused.contains("serviceaccounts is forbidden") && refused.contains("network-policies"),
        "{refused}"
    );
    let files = bench.files("E001-pod-api", "files");
    let file = |name: &str| {
        files
            .iter()
            .find(|(path, _)| path.ends_with(name))
            .map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
    };
    assert_eq!(file("/shop.previous.log").unwrap(), "2026-11-21T00:00:00Z before\n");
    assert_eq!(file("/shop.current.log").unwrap(), "2026-11-21T00:00:01Z now\n");
    assert!(
        file("/events.json").unwrap().contains("BackOff")
            && file("/owner.json").unwrap().contains("ReplicaSet")
    );
    assert!(file("/not-taken.json").unwrap().contains("no checkpoint by the kubelet"));
    assert!(file("/waits.current.log").is_none());
    assert!(server.asked().iter().all(|asked| asked.method == "GET"));
    bench.assert_verifies();

    // Once more: it is there already, and stays one.
    bench.run("capture.k8s_pod", "pod", POD, json!({})).unwrap();
    assert_eq!(bench.exhibits().len(), 1);
}

#[test]
fn a_pod_that_is_not_there_or_is_none_of_ours_is_a_failure_for_good() {
    let Some(program) = program() else { return };
    let server = Recorded::start(&[]);
    let bench = Bench::new(program, |_| json!({"kubernetes": {"prod": {"server": server.address}}}));
    for asset in ["prod/web/gone", "test/web/shop", "prod/../shop", "prod/web/shop?x=y"] {
        let failed =
            bench.run("capture.k8s_pod", "pod", (AssetKind::K8sPod, asset, ""), json!({})).unwrap_err();
        assert!(!failed.may_help_again, "{asset}: {failed}");
    }
    assert_eq!(server.asked().len(), 1);
    assert!(bench.exhibits().is_empty());
}

#[test]
fn a_cordon_is_recorded_before_it_is_made_and_taken_back_only_where_there_was_none() {
    let Some(program) = program() else { return };
    let server = Recorded::start(&pod_answers(&"0".repeat(64), "node-1"));
    let bench = Bench::new(program, |_| json!({"kubernetes": {"prod": {"server": server.address}}}));
    let told = bench.run("capture.k8s_pod", "pod", POD, json!({"cordon": true})).unwrap();
    assert_eq!(told["cordon"], json!({"node": "node-1", "was": false}));
    assert!(bench.intents().contains(&json!({"cordon": "node-1", "was": false})));
    let undone = bench
        .with("pod", POD, json!({}), |context| named("capture.k8s_pod").unwrap().undo(context, &told))
        .unwrap();
    assert_eq!(undone["changed"], true);
    let patches: Vec<_> =
        server.asked().into_iter().filter(|asked| asked.method == "PATCH").map(|asked| asked.body).collect();
    assert_eq!(patches, ["{\"spec\":{\"unschedulable\":true}}", "{\"spec\":{\"unschedulable\":null}}"]);
    let kept = json!({"cordon": {"node": "node-1", "was": true}});
    let undone = bench
        .with("pod", POD, json!({}), |context| named("capture.k8s_pod").unwrap().undo(context, &kept))
        .unwrap();
    assert_eq!(undone["changed"], false);
}

#[test]
fn a_pod_on_a_node_that_is_reached_gives_its_containers_memory_and_files_too() {
    let Some(program) = program() else { return };
    let id = format!("{:0<64}", "9adcafe");
    let Some(it) = RuncBox::start(&id, true) else { return };
    let server = Recorded::start(&pod_answers(&id, "node-1"));
    let state = it.path("state");
    let bench = Bench::new(program, |_| {
        json!({
            "kubernetes": {"prod": {"server": server.address, "nodes": {"node-1": "node"}}},
            "containers": {"node": {"on": "local", "runtime": "runc", "states": [state]}},
        })
    });
    let told = bench.run("capture.k8s_pod", "pod", POD, json!({})).unwrap();
    assert_eq!(told["containers"][0]["container"], "shop", "{told}");
    assert_eq!(told["containers"][0]["exhibit"], "E001");
    assert_eq!(told["containers"][1]["not_taken"], "it was never started");
    assert_eq!(told["api"]["exhibit"], "E002");
    let cores = bench.files("E001-pod-c-shop", "processes");
    let secret = b"planted-42-secret";
    assert!(cores.values().any(|core| core.windows(secret.len()).any(|part| part == secret)));
    bench.assert_verifies();
}

#[test]
fn containers_over_ssh_keep_apart_where_one_fails_and_where_one_is_called_as_what_the_api_tells() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(program) = program() else { return };
    let id = format!("{:0<64}", "3adcafe");
    let Some(it) = RuncBox::start(&id, true) else { return };
    let mut answers = pod_answers(&id, "node-1");
    let mut pod: Value = serde_json::from_str(&answers[0].2).unwrap();
    // The first is not on its node: its order is still there when the second's turn comes.
    pod["status"]["containerStatuses"] = json!([
        {"name": "ghost", "containerID": format!("containerd://{}", "d".repeat(64)), "state": {"running": {}}},
        {"name": "api", "containerID": format!("containerd://{id}"), "state": {"running": {}}},
    ]);
    answers[0].2 = pod.to_string();
    let server = Recorded::start(&answers);
    let (state, target) = (it.path("state"), sshd.target(&program));
    let bench = Bench::new(program, |_| {
        json!({
            "kubernetes": {"prod": {"server": server.address, "nodes": {"node-1": "boxes"}}},
            "containers": {"boxes": {"on": "node", "runtime": "runc", "states": [state]}},
            "ssh": {"node": target},
        })
    });
    let told = bench.run("capture.k8s_pod", "pod", POD, json!({}));
    let names: Vec<String> = bench.exhibits().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["E001-pod-c-ghost", "E002-pod-c-api", "E003-pod-api"], "{told:?}");
    let (_, ghost) = bench.exhibits().remove(0);
    assert_eq!(fs::read_dir(ghost).unwrap().count(), 0, "another's evidence lies where the ghost's should");
    let cores = bench.files("E002-pod-c-api", "processes");
    let secret = b"planted-42-secret";
    assert!(cores.values().any(|core| core.windows(secret.len()).any(|part| part == secret)));
    let files = bench.files("E003-pod-api", "files");
    assert!(files.keys().any(|path| path.ends_with("/pod.json")), "{:?}", files.keys());
    assert!(sshd.left().is_empty(), "{:?}", sshd.left());
    bench.assert_verifies();
}

#[test]
fn another_pod_of_the_same_name_is_not_taken_for_the_first() {
    let Some(program) = program() else { return };
    let mut answers = pod_answers(&"0".repeat(64), "node-1");
    let first = Recorded::start(&answers);
    answers[0].2 = answers[0].2.replace("\"u-1\"", "\"u-2\"");
    let second = Recorded::start(&answers);
    let targets = |server: &Recorded| json!({"kubernetes": {"prod": {"server": server.address}}});
    let mut bench = Bench::new(program, |_| targets(&first));
    let told = bench.run("capture.k8s_pod", "pod", POD, json!({})).unwrap();
    assert_eq!(told["uid"], "u-1");
    bench.settings.targets = serde_json::from_value(targets(&second)).unwrap();
    let told = bench.run("capture.k8s_pod", "pod", POD, json!({"cordon": true})).unwrap();
    assert!(told["pod"].as_str().unwrap().contains("another one has its name"), "{told}");
    assert_eq!(second.asked().len(), 1, "nothing was done to the other pod or its node");
    assert_eq!(bench.exhibits().len(), 1);
}
