use std::io::Write;

use serde_json::json;

use super::*;
use crate::triage::grpc::tests as grpc;
use crate::triage::packed::{Packed, packed};
use crate::triage::unix_http::tests::serve;

const ID: &str = "9c1f4c0e6f9b2a7d5e3c1b0a99887766554433221100ffeeddccbbaa99887766";

fn run(root: &Path) -> Packed {
    packed(|out, clock| containers_at(root, out, clock))
}

/// A daemon that knows one running container, as Docker 27 answers.
fn docker(target: &str) -> (u16, String) {
    let of = format!("/containers/{ID}/");
    let body = match target {
        "/containers/json?all=1&size=1" => json!([
            {"Id": ID, "Names": ["/web"], "Image": "nginx:1.27", "ImageID": "sha256:aa", "Command": "nginx", "State": "running"},
            {"Id": "../../etc", "Names": ["/evil"], "State": "running"},
        ]),
        "/version" => json!({"Version": "27.1.1"}),
        target if target == format!("{of}json") => json!({
            "Created": "2026-11-20T10:00:00.123456789Z",
            "State": {"Pid": 4242, "StartedAt": "2026-11-20T10:00:01Z", "FinishedAt": "0001-01-01T00:00:00Z"},
            "HostConfig": {"Privileged": true},
            "GraphDriver": {"Data": {"UpperDir": "/var/lib/docker/overlay2/abc/diff"}},
        }),
        target if target == format!("{of}changes") => json!([{"Path": "/tmp/x", "Kind": 1}]),
        target if target.starts_with(&format!("{of}logs?")) => json!("a line"),
        target if target.starts_with(&of) => json!({}),
        "/networks" => return (500, r#"{"message":"no"}"#.to_owned()),
        _ => json!([]),
    };
    (200, body.to_string())
}

#[test]
fn docker_is_asked_for_all_that_it_knows_of_each_container() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("run")).unwrap();
    serve(root.path().join("run/docker.sock"), |target, stream| {
        let (status, body) = docker(target);
        let head = format!("HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
        stream.write_all(format!("{head}{body}\r\n0\r\n\r\n").as_bytes())
    });
    let out = run(root.path());
    let rows = out.rows("V5/containers.jsonl");
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((&row["engine"], &row["id"], &row["name"]), (&"docker".into(), &ID.into(), &"web".into()));
    assert_eq!((row["pid"].as_u64(), &row["privileged"]), (Some(4242), &true.into()));
    assert_eq!(row["upper_folder"], "/var/lib/docker/overlay2/abc/diff");
    assert_eq!(row["started"], "2026-11-20T10:00:01Z");
    assert_eq!(out.files["V5/docker/version.json"], br#"{"Version":"27.1.1"}"#);
    for file in ["inspect.json", "top.json", "changes.json", "stats.json", "log"] {
        assert!(out.files.contains_key(&format!("V5/docker/containers/{ID}/{file}")), "{file}");
    }
    let whats: Vec<_> = out.issues.iter().map(|issue| issue.what.as_str()).collect();
    assert_eq!(
        whats,
        ["/networks was answered with status 500", "a container whose id is no name was not asked about"]
    );
}

#[test]
fn a_rootless_podman_that_says_nonsense_is_named_and_given_up() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("run/user/1000/podman")).unwrap();
    serve(root.path().join("run/user/1000/podman/podman.sock"), |_, stream| stream.write_all(b"\0\0\0"));
    let out = run(root.path());
    assert!(out.rows("V5/containers.jsonl").is_empty());
    assert_eq!(out.issues.len(), MOST_SILENT as usize);
    assert!(out.issues.iter().all(|issue| issue.what.contains("no HTTP")), "{:?}", out.issues);
}

/// A field of a message: `number` below 16, up to 127 bytes.
fn field(number: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
}

#[test]
fn containerd_tells_its_pods_containers_and_tasks() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("run/containerd")).unwrap();
    grpc::serve(root.path().join("run/containerd/containerd.sock"), |method, stream| {
        let container = [
            field(1, "c1"),
            field(2, "p1"),
            field(3, field(1, "web")),
            field(4, field(1, "nginx:1.27")),
            vec![0x30, 1, 0x38, 0x80, 0xa8, 0xd6, 0xb9, 0x07],
        ]
        .concat();
        let answer = match method {
            "/runtime.v1.RuntimeService/Version" => field(2, "containerd"),
            "/runtime.v1.RuntimeService/ListPodSandbox" => field(
                1,
                [field(1, "p1"), field(2, [field(1, "web-pod"), field(3, "default")].concat())].concat(),
            ),
            "/runtime.v1.RuntimeService/ListContainers" => field(1, container),
            "/runtime.v1.RuntimeService/ContainerStatus" => field(2, field(1, "info")),
            "/containerd.services.namespaces.v1.Namespaces/List" => field(1, field(1, "moby")),
            "/containerd.services.containers.v1.Containers/List" => {
                field(1, [field(1, "c2"), field(3, "redis")].concat())
            }
            "/containerd.services.tasks.v1.Tasks/List" => {
                field(1, [field(2, "c2"), vec![0x18, 77, 0x20, 2]].concat())
            }
            _ => return stream.write_all(&[0; 9]),
        };
        stream.write_all(&grpc::good_answer(&answer))
    });
    let out = run(root.path());
    let rows = out.rows("V5/containers.jsonl");
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
            (
                text("view"),
                text("id"),
                text("name"),
                text("image"),
                text("state"),
                row.get("pid").and_then(Value::as_u64),
            )
        })
        .collect();
    let row = |a: &str, b: &str, c: &str, d: &str, e: &str, pid| {
        (a.into(), b.into(), c.into(), d.into(), e.into(), pid)
    };
    assert_eq!(
        told,
        [
            row("pod sandbox", "p1", "web-pod", "-", "ready", None),
            row("cri", "c1", "web", "nginx:1.27", "running", None),
            row("containerd", "c2", "-", "redis", "running", Some(77)),
        ]
    );
    assert_eq!(rows[1]["created"], "1970-01-01T00:00:02.000000000Z");
    assert!(out.files.contains_key("V5/containerd/status/c1.pb"));
}

#[test]
fn runtimes_without_a_socket_are_told_by_their_state_on_disk() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(&format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/init.pid"), "4242");
    write(
        "run/runc/box/state.json",
        r#"{"id":"box","init_process_pid":99,"created":"2026-11-20T10:00:00Z"}"#,
    );
    write("run/crun/other/status", "no json");
    let out = run(root.path());
    let rows = out.rows("V5/containers.jsonl");
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["engine"].as_str().unwrap(),
                row["id"].as_str().unwrap(),
                row.get("pid").and_then(Value::as_u64),
            )
        })
        .collect();
    assert_eq!(told, [("containerd", ID, Some(4242)), ("runc", "box", Some(99)), ("crun", "other", None)]);
    assert_eq!(out.files["V5/state/run/crun/other/status"], b"no json");
}
