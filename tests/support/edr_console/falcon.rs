//! CrowdStrike Falcon: containment, real time response, put-files.

use super::*;

pub(crate) fn falcon(state: &mut State, asked: &Asked, _: &str) -> Answer {
    if let Some(answer) = let_in(state, asked) {
        return answer;
    }
    let one = |value: Value| json!({"meta": {"query_time": 0.01, "trace_id": "t-1"}, "resources": [value], "errors": []});
    let body = json_of(asked);
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/devices/entities/devices/v2") => {
            let status = state.network([
                "normal",
                "contained",
                if state.contained { "containment_pending" } else { "lift_containment_pending" },
            ]);
            let host = json!({"device_id": parameter(&asked.query, "ids"), "hostname": "ws-fin-07", "status": status});
            let count = state.fits.unwrap_or(1) as usize;
            plain(200, &json!({"meta": {}, "resources": vec![host; count], "errors": []}))
        }
        ("POST", "/devices/entities/devices-actions/v2") => {
            assert_eq!(body["ids"], json!([AID]));
            state.contain(parameter(&asked.query, "action_name") == "contain");
            plain(202, &one(json!({"id": AID, "path": format!("/devices/entities/devices/v1?ids={AID}")})))
        }
        ("POST", "/real-time-response/entities/sessions/v1") => {
            assert_eq!(body["device_id"], AID);
            if state.refused_sessions > 0 {
                state.refused_sessions -= 1;
                let offline =
                    json!({"code": 40401, "message": "Could not establish sensor comms: host is not online"});
                return plain(404, &json!({"meta": {}, "resources": null, "errors": [offline]}));
            }
            let session = format!("7d0ed6b8-0000-4000-8000-{:012}", state.next());
            state.sessions.insert(session.clone());
            state.cwd = PathBuf::new();
            plain(201, &one(json!({"session_id": session, "scripts": []})))
        }
        ("GET", "/real-time-response/queries/put-files/v1") => {
            let ids: Vec<&str> = if state.library.is_empty() { vec![] } else { vec!["put_1"] };
            plain(200, &json!({"resources": ids, "errors": []}))
        }
        ("GET", "/real-time-response/entities/put-files/v2") => {
            let (name, content) = state.library.iter().next().unwrap();
            plain(
                200,
                &one(json!({"id": "put_1", "name": name, "sha256": custody::sha256(content).to_string()})),
            )
        }
        ("POST", "/real-time-response/entities/put-files/v1") => {
            let (name, content) = parts(&asked.body)["file"].clone();
            state.library.insert(name, content);
            plain(200, &json!({"meta": {"writes": {"resources_affected": 1}}, "errors": []}))
        }
        (
            "POST",
            "/real-time-response/entities/admin-command/v1"
            | "/real-time-response/entities/active-responder-command/v1",
        ) => {
            let session = body["session_id"].as_str().unwrap().to_owned();
            if !state.sessions.contains(&session) {
                let gone = json!({"code": 40401, "message": "Session not found"});
                return plain(404, &json!({"meta": {}, "resources": null, "errors": [gone]}));
            }
            let line = body["command_string"].as_str().unwrap();
            let (base, rest) = line.split_once(' ').unwrap();
            assert_eq!(body["base_command"], base);
            let request = format!("req-{}-{base}", state.next());
            let mut task = Task { session, ..Task::default() };
            let mut said = String::new();
            match base {
                "mkdir" if Path::new(rest).exists() => task.words = format!("mkdir: {rest}: File exists"),
                "mkdir" => std::fs::create_dir_all(rest).unwrap(),
                "cd" => state.cwd = rest.into(),
                "put" => state.put(rest, &state.cwd),
                "runscript" => {
                    let script = rest.split("```").nth(1).unwrap();
                    if state.warns {
                        let locale = "LC_ALL: cannot change locale (en_US.UTF-8)";
                        task.words = format!("/bin/bash: warning: setlocale: {locale}\n");
                    }
                    if state.is_fetched_at_once() {
                        said = state.run(script);
                    } else {
                        task.waits = Some(script.to_owned());
                    }
                }
                "get" => {
                    let content = std::fs::read(rest).unwrap();
                    state.fetched.push(Fetched { request: request.clone(), name: rest.to_owned(), content });
                    state.meanwhile();
                }
                other => panic!("{other}"),
            }
            *task.said.lock().unwrap() = Some(Some(said));
            let begun = json!({"session_id": task.session, "cloud_request_id": request, "queued_command_offline": false});
            state.tasks.insert(request, task);
            state.polls = 0;
            plain(201, &one(begun))
        }
        (
            "GET",
            "/real-time-response/entities/admin-command/v1"
            | "/real-time-response/entities/active-responder-command/v1",
        ) => {
            let mut task = state.tasks.remove(parameter(&asked.query, "cloud_request_id")).unwrap();
            task.polls += 1;
            let complete = task.polls > 1;
            // A session that was ended meanwhile runs nothing more.
            if complete
                && state.sessions.contains(&task.session)
                && let Some(script) = task.waits.take()
            {
                *task.said.lock().unwrap() = Some(Some(state.run(&script)));
            }
            let stdout = if complete { task.said().flatten().unwrap() } else { String::new() };
            let stderr = if complete { task.words.as_str() } else { "" };
            // Of the request's own id there is nothing in it.
            let told = json!({"session_id": task.session, "task_id": "e3f1a2b4", "complete": complete, "stdout": stdout, "stderr": stderr, "sequence_id": 0, "base_command": "x"});
            state.tasks.insert(parameter(&asked.query, "cloud_request_id").to_owned(), task);
            plain(200, &one(told))
        }
        ("GET", "/real-time-response/entities/file/v2") => {
            state.polls += 1;
            // Whatever was fetched from the host is listed, the oldest first. It takes a while to arrive.
            let is_old = |file: &Fetched| file.request.starts_with("old");
            let files: Vec<Value> = state.fetched.iter().enumerate().filter(|(_, file)| state.polls > 3 || is_old(file)).map(|(id, file)| {
                json!({"id": id, "name": file.name, "size": file.content.len(), "sha256": custody::sha256(&file.content).to_string(), "cloud_request_id": file.request})
            }).collect();
            plain(200, &json!({"resources": files, "errors": []}))
        }
        ("DELETE", "/real-time-response/entities/file/v2") => {
            state.fetched.remove(parameter(&asked.query, "ids").parse().unwrap());
            (204, String::new(), Vec::new())
        }
        ("GET", "/real-time-response/entities/extracted-file-contents/v1") => {
            let hash = parameter(&asked.query, "sha256");
            let file = state.fetched.iter().find(|file| custody::sha256(&file.content).to_string() == hash);
            let file = file.unwrap();
            bytes(seven_z(&file.name, &file.content))
        }
        ("DELETE", "/real-time-response/entities/sessions/v1") => {
            state.sessions.remove(parameter(&asked.query, "session_id"));
            (204, String::new(), Vec::new())
        }
        (method, path) => {
            plain(404, &json!({"errors": [{"code": 404, "message": format!("{method} {path}")}]}))
        }
    }
}
