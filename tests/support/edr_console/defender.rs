//! Microsoft Defender for Endpoint: isolation, live response, its library.

use super::*;

pub(crate) fn defender(state: &mut State, asked: &Asked, base: &str) -> Answer {
    if asked.path.starts_with("/results/") {
        assert!(!asked.authorization.is_empty(), "it is on the API's own host here");
        return bytes(state.files["result"].clone());
    }
    if let Some(answer) = let_in(state, asked) {
        return answer;
    }
    let body = json_of(asked);
    let begin = |state: &mut State, kind: &str, commands: Value| {
        let number = state.actions.len() + 1;
        let action = json!({
            "id": format!("5382f7ea-0000-4000-8000-{number:012}"), "type": kind, "status": "Pending", "machineId": MACHINE,
            "creationDateTimeUtc": format!("2026-11-20T12:{number:02}:00.0000001Z"), "commands": commands,
        });
        state.actions.push(action.clone());
        state.polls = 0;
        plain(201, &action)
    };
    let path = asked.path.as_str();
    match (asked.method.as_str(), path) {
        ("GET", "/api/machineactions") => {
            // They go on whether anybody asks for them by their id or not.
            state.polls += 1;
            let is_done = state.polls > 2 && !state.is_away;
            for action in
                state.actions.iter_mut().filter(|action| is_done && action["type"] != "LiveResponse")
            {
                action["status"] = "Succeeded".into();
            }
            let known: Vec<&Value> =
                state.actions.iter().filter(|action| action["type"] != "LiveResponse").collect();
            plain(200, &json!({"value": known}))
        }
        ("GET", _) if path.contains("GetLiveResponseResultDownloadLink") => {
            let at = state.results_at.clone().unwrap_or_else(|| format!("{base}/results/1?sig=x"));
            plain(200, &json!({"@odata.context": "x", "value": at}))
        }
        ("GET", _) if path.starts_with("/api/machineactions/") => {
            state.polls += 1;
            let id = path.rsplit('/').next().unwrap().to_owned();
            let mut status = if state.polls > 1 && !state.is_away { "Succeeded" } else { "InProgress" };
            if status == "Succeeded"
                && let Some(mut task) = state.tasks.remove(&id)
                && let Some(name) = task.waits.take()
            {
                // Only now: what was deleted from the library meanwhile is not run.
                match state.library.get(&name).map(|script| String::from_utf8(script.clone()).unwrap()) {
                    Some(script) => script_result(state, &name, &script),
                    None => status = "Failed",
                }
            }
            let action = state.actions.iter_mut().find(|action| action["id"] == id.as_str()).unwrap();
            action["status"] = status.into();
            plain(200, action)
        }
        ("GET", _) if path.starts_with("/api/machines/") => {
            plain(200, &json!({"id": MACHINE, "computerDnsName": "ws-fin-07"}))
        }
        ("POST", "/api/libraryfiles") => {
            let (name, content) = parts(&asked.body)["file"].clone();
            state.library.insert(name, content);
            plain(200, &json!({}))
        }
        ("GET", "/api/libraryfiles") => {
            let files: Vec<Value> = state.library.iter().map(|(name, content)| json!({"fileName": name, "sha256": custody::sha256(content).to_string()})).collect();
            plain(200, &json!({"value": files}))
        }
        ("DELETE", _) if path.starts_with("/api/libraryfiles/") => {
            state.library.remove(path.rsplit('/').next().unwrap());
            (204, String::new(), Vec::new())
        }
        ("POST", _) if path.ends_with("/isolate") || path.ends_with("/unisolate") => {
            assert!(path.contains(MACHINE) && !body["Comment"].as_str().unwrap().is_empty());
            let isolates = path.ends_with("/isolate");
            assert_eq!(body["IsolationType"] == "Full", isolates);
            state.contained = isolates;
            begin(state, if isolates { "Isolate" } else { "Unisolate" }, Value::Null)
        }
        ("POST", _) if path.ends_with("/runliveresponse") => {
            let is_open =
                |action: &&Value| matches!(action["status"].as_str(), Some("Pending" | "InProgress"));
            if let Some(open) = state.actions.iter().find(is_open).cloned() {
                // One at a time. Nobody waits for it any more, so it goes on here.
                let id = open["id"].as_str().unwrap().to_owned();
                let on = Asked {
                    method: "GET".into(),
                    path: format!("/api/machineactions/{id}"),
                    query: String::new(),
                    authorization: asked.authorization.clone(),
                    body: Vec::new(),
                };
                let _ = defender(state, &on, base);
                let busy = json!({"error": {"code": "ActiveRequestAlreadyExists", "message": "Action is already in progress"}});
                return plain(400, &busy);
            }
            let command = &body["Commands"][0];
            let value = command["params"][0]["value"].as_str().unwrap().to_owned();
            match command["type"].as_str().unwrap() {
                "PutFile" => state.put(&value, &state.host.clone()),
                "RunScript" => {
                    if state.is_fetched_at_once() {
                        let script = String::from_utf8(state.library[&value].clone()).unwrap();
                        script_result(state, &value, &script);
                    } else {
                        let id = format!("5382f7ea-0000-4000-8000-{:012}", state.actions.len() + 1);
                        state.tasks.insert(id, Task { waits: Some(value.clone()), ..Task::default() });
                    }
                }
                "GetFile" => {
                    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    packer.write_all(&std::fs::read(&value).unwrap()).unwrap();
                    state.files.insert("result".into(), packer.finish().unwrap());
                    state.meanwhile();
                    if state.lifted_meanwhile {
                        let _ = begin(state, "Unisolate", Value::Null);
                        state.actions.last_mut().unwrap()["status"] = "Succeeded".into();
                    }
                }
                other => panic!("{other}"),
            }
            begin(
                state,
                "LiveResponse",
                json!([{"index": 0, "commandStatus": "Completed", "errors": [], "command": command}]),
            )
        }
        (method, path) => {
            plain(404, &json!({"error": {"code": "ResourceNotFound", "message": format!("{method} {path}")}}))
        }
    }
}

/// Runs a script through live response.
fn script_result(state: &mut State, name: &str, script: &str) {
    let output = state.run(script);
    let said = json!({"script_name": name, "exit_code": 0, "script_output": output, "script_errors": ""});
    state.files.insert("result".into(), said.to_string().into_bytes());
}
