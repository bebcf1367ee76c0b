//! SentinelOne: network quarantine, remote scripts, fetched results.

use super::*;

pub(crate) fn sentinelone(state: &mut State, asked: &Asked, base: &str) -> Answer {
    if asked.authorization != "ApiToken s3cr/t" {
        return plain(
            401,
            &json!({"errors": [{"code": 4010010, "detail": null, "title": "Authentication Failed"}]}),
        );
    }
    if asked.path == "/results/1.zip" {
        return bytes(state.files["result"].clone());
    }
    let body = json_of(asked);
    match (asked.method.as_str(), asked.path.strip_prefix("/web/api/v2.1").unwrap()) {
        ("GET", "/agents") => {
            let status = state.network([
                "connected",
                "disconnected",
                if state.contained { "disconnecting" } else { "connecting" },
            ]);
            let agent =
                json!({"id": AGENT, "computerName": "build-04", "networkStatus": status, "osType": "linux"});
            let count = state.fits.unwrap_or(1);
            plain(
                200,
                &json!({"data": vec![agent; count.min(10) as usize], "pagination": {"totalItems": count, "nextCursor": null}}),
            )
        }
        ("POST", act @ ("/agents/actions/disconnect" | "/agents/actions/connect")) => {
            assert_eq!(body, json!({"filter": {"ids": [AGENT]}, "data": {}}));
            state.contain(act.ends_with("disconnect"));
            plain(200, &json!({"data": {"affected": 1}}))
        }
        ("POST", "/remote-scripts") => {
            let parts = parts(&asked.body);
            assert_eq!(
                (parts["osTypes"].1.as_slice(), parts["scopeId"].1.as_slice()),
                (b"linux".as_slice(), b"225494730938493804".as_slice())
            );
            let id = format!("10000{}", state.next());
            for (field, stored) in [("file", id.clone()), ("packageFile", "package".to_owned())] {
                if let Some((name, content)) = parts.get(field) {
                    state.library.insert(stored, content.clone());
                    if field == "packageFile" {
                        state.package = name.clone();
                    }
                }
            }
            plain(200, &json!({"data": {"id": id, "scriptName": "x", "packageId": null}}))
        }
        ("POST", "/remote-scripts/execute") => {
            assert_eq!(body["filter"], json!({"ids": [AGENT]}));
            if state.wants_approval {
                let pending = json!({"affected": 1, "parentTaskId": null, "pending": true, "pendingExecutionId": "9001"});
                return plain(200, &json!({"data": pending}));
            }
            let task = state.next().to_string();
            let id = body["data"]["scriptId"].as_str().unwrap().to_owned();
            state.tasks.insert(task.clone(), Task { waits: Some(id), ..Task::default() });
            if state.is_fetched_at_once() {
                script_task(state, &task);
            }
            plain(
                200,
                &json!({"data": {"affected": 1, "parentTaskId": task, "pending": false, "pendingExecutionId": null}}),
            )
        }
        ("GET", "/remote-scripts/status") => {
            let task = parameter(&asked.query, "parentTaskId").to_owned();
            let is_due = {
                let task = state.tasks.get_mut(&task).unwrap();
                task.polls += 1;
                task.polls > 2 && task.waits.is_some()
            };
            if is_due {
                script_task(state, &task);
            }
            let status = match (state.tasks[&task].polls, state.tasks[&task].said()) {
                (0..=1, _) => "created",
                (2, _) => "pending",
                (3, _) | (_, None) => "in_progress",
                (_, Some(None)) => "failed",
                (_, Some(Some(_))) => "completed",
            };
            plain(
                200,
                &json!({"data": [{"id": task, "parentTaskId": task, "agentId": AGENT, "status": status, "detailedStatus": ""}], "pagination": {"totalItems": 1}}),
            )
        }
        ("POST", "/remote-scripts/fetch-files") => {
            let task = body["data"]["taskIds"][0].as_str().unwrap().to_owned();
            let mut files =
                vec![("stdout".to_owned(), state.tasks[&task].said().flatten().unwrap().into_bytes())];
            for file in std::fs::read_dir(state.host.join(format!("output-{task}"))).unwrap() {
                let file = file.unwrap();
                let name = format!("build-04/{}", file.file_name().to_str().unwrap());
                files.push((name, std::fs::read(file.path()).unwrap()));
            }
            if files.iter().any(|(name, _)| name.ends_with("bundle.tar")) {
                state.meanwhile();
            }
            state.files.insert("result".into(), zip_of(&files));
            let at = state.results_at.clone().unwrap_or_else(|| format!("{base}/results/1.zip"));
            plain(
                200,
                &json!({"data": {"download_links": [{"downloadUrl": at, "fileName": "1.zip", "taskId": task}], "errors": []}}),
            )
        }
        ("DELETE", "/remote-scripts") => {
            state.library.remove(body["filter"]["ids"][0].as_str().unwrap());
            // A package goes with its script.
            state.library.remove("package");
            plain(200, &json!({"data": {"affected": 1}}))
        }
        (method, path) => {
            plain(404, &json!({"errors": [{"code": 4040010, "title": format!("{method} {path}")}]}))
        }
    }
}

/// The host fetches the script of a task with its package and runs it, for as long as it takes.
fn script_task(state: &mut State, task: &str) {
    let (package, output) =
        (state.host.join(format!("package-{task}")), state.host.join(format!("output-{task}")));
    for folder in [&package, &output] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let script = state.tasks.get_mut(task).unwrap().waits.take().unwrap();
    let said = state.tasks[task].said.clone();
    let Some(script) = state.library.get(&script).map(|script| String::from_utf8(script.clone()).unwrap())
    else {
        // It was deleted meanwhile.
        *said.lock().unwrap() = Some(None);
        return;
    };
    if let Some(mut content) = state.library.remove("package") {
        if state.tampers {
            content.push(b'#');
        }
        std::fs::write(package.join(&state.package), content).unwrap();
    }
    let host = state.host.clone();
    std::thread::spawn(move || {
        let folders = [("S1_PACKAGE_DIR_PATH", package), ("S1_OUTPUT_DIR_PATH", output)];
        let text = run(&script, &host, &folders);
        *said.lock().unwrap() = Some(Some(text));
    });
}

/// A zip of stored files.
fn zip_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut body, mut directory) = (Vec::new(), Vec::new());
    for (name, plain) in files {
        let mut crc = flate2::Crc::new();
        crc.update(plain);
        let size = (plain.len() as u32).to_le_bytes();
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend([size, size].concat());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        let at = body.len() as u32;
        body.extend([b"PK\x03\x04".as_slice(), &common, name.as_bytes(), plain].concat());
        directory.extend(
            [b"PK\x01\x02\x14\0".as_slice(), &common, &[0; 10], &at.to_le_bytes(), name.as_bytes()].concat(),
        );
    }
    let (at, size) = (body.len() as u32, directory.len() as u32);
    let count = (files.len() as u16).to_le_bytes();
    [
        &body,
        &directory,
        b"PK\x05\x06\0\0\0\0".as_slice(),
        &count,
        &count,
        &size.to_le_bytes(),
        &at.to_le_bytes(),
        &[0, 0],
    ]
    .concat()
}
