//! What Docker or Podman says of a container, asked at its socket with GET alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::find::{View, Wanted, is_socket};
use crate::triage::bounded_reads::Patience;
use crate::triage::containers::{engines, is_plain};
use crate::triage::sockets::holders_of_socket;
use crate::triage::unix_http::{Answer, AnswerLimits, get};

/// The container may go soon: an engine that does not answer by then is left alone.
const ANSWER: AnswerLimits = AnswerLimits { time: Duration::from_secs(10), body: 16 << 20 };
const LIMIT: Duration = Duration::from_secs(12);
/// Containers of one engine that are looked at.
const MOST: usize = 20_000;

/// Asked of the container that fits, beside `inspect`: file, end of the target, only while it runs.
const MORE: [(&str, &str, bool); 3] = [
    ("top.json", "top", true),
    ("changes.json", "changes", false),
    ("log", "logs?stdout=1&stderr=1&timestamps=1&tail=10000", false),
];

/// The containers that fit.
pub(super) fn views(
    root: &Path,
    wanted: &Wanted,
    more: &[PathBuf],
    notes: &mut Vec<(PathBuf, String)>,
) -> Vec<View> {
    let mut sockets: Vec<(String, PathBuf)> = more
        .iter()
        .filter(|socket| is_socket(socket))
        .map(|socket| ("docker".to_owned(), socket.clone()))
        .collect();
    let given = sockets.len();
    sockets.extend(engines(root).into_iter().map(|engine| (engine.name, engine.socket)));
    let mut found = Vec::new();
    for (at, (name, socket)) in sockets.into_iter().enumerate() {
        if at >= given && name.starts_with("docker") && sleeps(root, &socket) {
            let what = "not asked: only systemd holds this socket, so asking would start the daemon and its containers";
            notes.push((socket, what.to_owned()));
            continue;
        }
        match listed(&socket, wanted) {
            Ok(ids) => found.extend(ids.into_iter().map(|id| view(&name, &socket, id, notes))),
            // A socket that was given may be that of containerd.
            Err(_) if at < given => {}
            Err(error) => notes.push((socket, format!("did not list its containers: {error}"))),
        }
    }
    found
}

fn sleeps(root: &Path, socket: &Path) -> bool {
    let holders = holders_of_socket(root, socket);
    !holders.is_empty() && holders.iter().all(|name| name == "systemd")
}

fn ask(socket: &Path, target: String) -> Result<Vec<u8>, String> {
    let socket = socket.to_owned();
    // On a thread of its own: connecting has no time-out.
    match Patience::of(LIMIT).wait(move || get(&socket, &target, ANSWER)) {
        Ok(Answer { status: 200, body, cut: None }) => Ok(body),
        Ok(Answer { cut: Some(why), .. }) => Err(why),
        Ok(Answer { status, .. }) => Err(format!("status {status}")),
        Err(error) => Err(error.to_string()),
    }
}

/// What its list says of a container.
struct Listed {
    id: String,
    name: String,
    image: String,
    state: String,
}

fn listed(socket: &Path, wanted: &Wanted) -> Result<Vec<Listed>, String> {
    let list = ask(socket, "/containers/json?all=1".to_owned())?;
    let Ok(Value::Array(containers)) = serde_json::from_slice(&list) else {
        return Err("the list is no JSON list".to_owned());
    };
    let mut found = Vec::new();
    for container in containers.iter().take(MOST) {
        let text = |key: &str| container.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let names = container.get("Names").and_then(Value::as_array).into_iter().flatten();
        let names: Vec<&str> =
            names.filter_map(Value::as_str).map(|name| name.trim_start_matches('/')).collect();
        let id = text("Id");
        // Which of its names was asked for does not matter.
        let name =
            names.iter().find(|name| **name == wanted.id).or(names.first()).copied().unwrap_or_default();
        if is_plain(&id) && wanted.fits("", &id, name) > 0 {
            found.push(Listed { id, name: name.to_owned(), image: text("Image"), state: text("State") });
        }
    }
    Ok(found)
}

fn view(engine: &str, socket: &Path, listed: Listed, notes: &mut Vec<(PathBuf, String)>) -> View {
    let Listed { id, name, image, state } = listed;
    let mut view = View { runtime: engine.to_owned(), id: id.clone(), name, image, state, ..View::default() };
    view.socket = Some(socket.to_owned());
    let inspected = ask(socket, format!("/containers/{id}/json"));
    let inspected = match inspected {
        Ok(bytes) => {
            let value = serde_json::from_slice::<Value>(&bytes).unwrap_or_default();
            view.documents.push((format!("{engine}/containers/{id}/inspect.json"), bytes));
            value
        }
        Err(error) => {
            notes.push((socket.to_owned(), format!("did not say what container {id} is: {error}")));
            return view;
        }
    };
    let text =
        |pointer: &str| inspected.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let path = |pointer: &str| text(pointer).map(PathBuf::from).filter(|path| path.is_absolute());
    let pid = inspected.pointer("/State/Pid").and_then(Value::as_u64).filter(|&pid| pid > 1);
    view.pid = pid.and_then(|pid| u32::try_from(pid).ok());
    view.upper = path("/GraphDriver/Data/UpperDir");
    view.root = path("/GraphDriver/Data/MergedDir");
    view.logs = path("/LogPath").into_iter().collect();
    if let Some(image) = text("/Image").filter(|image| is_plain(&image.replace(':', "-"))) {
        match ask(socket, format!("/images/{image}/json")) {
            Ok(bytes) => view.documents.push((format!("{engine}/containers/{id}/image.json"), bytes)),
            Err(error) => {
                notes.push((socket.to_owned(), format!("did not say what image {image} is: {error}")));
            }
        }
    }
    view
}

/// Answers that take the engine a while: asked once what goes first is taken.
pub(super) fn later(view: &View) -> Vec<(String, Result<Vec<u8>, String>)> {
    let Some(socket) = &view.socket else { return Vec::new() };
    let runs = view.pid.is_some();
    let asked = MORE.iter().filter(|(_, _, only_running)| runs || !only_running);
    asked
        .map(|(file, end, _)| {
            let place = format!("{}/containers/{}/{file}", view.runtime, view.id);
            (place, ask(socket, format!("/containers/{}/{end}", view.id)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::triage::unix_http::tests::serve;

    #[test]
    fn a_container_is_found_by_its_name_and_what_the_engine_says_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("d.sock");
        let id = format!("{:0<64}", "c0ffee");
        let (list, inspect) = (
            format!(
                r#"[{{"Id":"{id}","Names":["/web"],"Image":"shop:1","State":"running"}},{{"Id":"../x","Names":["/web"]}}]"#
            ),
            r#"{"State":{"Pid":42},"GraphDriver":{"Data":{"UpperDir":"/d/diff"}},"LogPath":"/d/l.log","Image":"sha256:ab"}"#,
        );
        serve(socket.clone(), move |target, stream| {
            let body = match target {
                target if target.starts_with("/containers/json") => list.as_str(),
                target if target.ends_with("/json") && target.starts_with("/containers/c0ffee") => inspect,
                "/images/sha256:ab/json" => "{}",
                _ => "",
            };
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        });
        let mut notes = Vec::new();
        let wanted = Wanted::read("web").unwrap();
        let found = views(folder.path(), &wanted, &[socket], &mut notes);
        assert_eq!(found.len(), 1, "{notes:?}");
        assert_eq!((found[0].pid, found[0].state.as_str()), (Some(42), "running"));
        assert_eq!(found[0].upper.as_deref(), Some(Path::new("/d/diff")));
        assert_eq!(found[0].documents.len(), 2);
    }
}
