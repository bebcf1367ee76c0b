//! The script that hosts are given: one text for all products (`host.sh`), with what is asked for set before it.

use crate::steps::Failed;

const HOST: &str = include_str!("host.sh");
const COLLECT: &str = include_str!("collect.sh");

/// What is done on one host.
#[derive(Debug)]
pub(super) struct HostScript {
    /// Where it works.
    pub(super) folder: String,
    /// The collector's name and SHA-256.
    pub(super) name: String,
    pub(super) sha256: String,
    /// Where it may lie.
    pub(super) places: Vec<String>,
    /// The words of `exhibit acquire`, each quoted.
    pub(super) words: String,
    /// The commission.
    pub(super) order: String,
    /// The exhibit's folder.
    pub(super) bundle: String,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Started,
    Running,
    Clean,
    /// With issues or without; bytes and hash of what was packed, as the host says.
    Done {
        issues: bool,
        bytes: u64,
        sha256: String,
    },
    Failed(String),
}

impl HostScript {
    /// The script of a mode: `start`, `whole`, `look` or `clean`.
    pub(super) fn text(&self, mode: &str) -> String {
        let set = |name: &str, value: &str| format!("{name}={}\n", quoted(value));
        let mut text = String::from("#!/bin/sh\n");
        text.push_str(&set("mode", mode));
        text.push_str(&set("folder", &self.folder));
        text.push_str(&set("name", &self.name));
        text.push_str(&set("places", &self.places.join(" ")));
        if matches!(mode, "start" | "whole") {
            text.push_str(&set("sha256", &self.sha256));
            text.push_str(&set("order", self.order.trim_end_matches('\n')));
            text.push_str(&set("bundle", &self.bundle));
            text.push_str(&set("words", &self.words));
            text.push_str(&set("collect", COLLECT));
        }
        text.push_str(HOST);
        text
    }
}

/// Any text as one word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What the script said last.
fn last_of(said: &str) -> Option<&str> {
    said.lines().rev().find_map(|line| line.trim().strip_prefix("exhibit: "))
}

/// Whether the script said anything.
pub(super) fn is_said(said: &str) -> bool {
    last_of(said).is_some()
}

/// Reads what the script said last.
///
/// # Errors
///
/// [`Failed`] when it said nothing of ours.
pub(super) fn state_of(said: &str) -> Result<State, Failed> {
    let line = last_of(said);
    let line =
        line.ok_or_else(|| Failed::for_now("the script on the host said nothing that could be read"))?;
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    Ok(match word {
        "started" => State::Started,
        "running" => State::Running,
        "clean" => State::Clean,
        "failed" => State::Failed(crate::alert::one_line(rest)),
        "done" => {
            let mut parts = rest.split(' ');
            let (code, bytes, sha256) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
            let is_hash =
                sha256.len() == 64 && sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            match (code, bytes.and_then(|bytes| bytes.parse().ok())) {
                (Some(code @ ("0" | "1")), Some(bytes)) if is_hash => {
                    State::Done { issues: code == "1", bytes, sha256: sha256.to_owned() }
                }
                _ => return Err(Failed::for_now("what the script on the host said cannot be read")),
            }
        }
        _ => return Err(Failed::for_now("what the script on the host said cannot be read")),
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A collector that packs what it was told.
    const COLLECTOR: &str = r#"#!/bin/sh
case "$*" in
  *--give*) for last; do :; done; cat "$last/told" ;;
  *acquire*) mkdir -p E001-t; printf '%s|' "$@" > E001-t/told; cat order >> E001-t/told; exit 1 ;;
esac
"#;

    fn script(folder: &std::path::Path, places: &std::path::Path) -> HostScript {
        HostScript {
            folder: folder.join("work").to_str().unwrap().to_owned(),
            name: "exhibit-x".to_owned(),
            sha256: custody::sha256(COLLECTOR.as_bytes()).to_string(),
            places: vec![places.to_str().unwrap().to_owned()],
            words: "triage --profile 'two words'".to_owned(),
            order: "{\"a\":\"it's $HOME `id`\"}\n".to_owned(),
            bundle: "E001-t".to_owned(),
        }
    }

    fn run(text: &str, in_folder: &std::path::Path) -> State {
        let output = Command::new("/bin/sh")
            .args(["-c", text])
            .current_dir(in_folder)
            .env_remove("S1_OUTPUT_DIR_PATH")
            .output();
        let output = output.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{text}");
        state_of(&String::from_utf8(output.stdout).unwrap()).unwrap()
    }

    #[test]
    fn a_shell_collects_in_the_background_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let places = tempfile::tempdir().unwrap();
        std::fs::write(places.path().join("exhibit-x"), COLLECTOR).unwrap();
        let script = script(folder.path(), places.path());
        assert_eq!(run(&script.text("start"), folder.path()), State::Started);
        let mut state = State::Running;
        let begun = std::time::Instant::now();
        while state == State::Running && begun.elapsed() < std::time::Duration::from_secs(180) {
            std::thread::sleep(std::time::Duration::from_millis(50));
            state = run(&script.text("look"), folder.path());
        }
        let packed = std::fs::read(folder.path().join("work/bundle.tar")).unwrap();
        let sha256 = custody::sha256(&packed).to_string();
        assert_eq!(state, State::Done { issues: true, bytes: packed.len() as u64, sha256 });
        let told = String::from_utf8(packed).unwrap();
        assert!(told.contains("acquire|triage|--profile|two words|--commission|"), "{told}");
        assert!(told.ends_with("{\"a\":\"it's $HOME `id`\"}\n"), "{told}");
        assert_eq!(run(&script.text("clean"), folder.path()), State::Clean);
        assert!(!folder.path().join("work").exists() && !places.path().join("exhibit-x").exists());
        assert!(matches!(run(&script.text("look"), folder.path()), State::Failed(_)));
    }

    #[test]
    fn a_collector_that_ends_between_two_looks_is_not_taken_for_one_that_was_ended() {
        let folder = tempfile::tempdir().unwrap();
        let script = script(folder.path(), folder.path());
        let work = folder.path().join("work");
        std::fs::create_dir(&work).unwrap();
        std::fs::write(work.join("pid"), "999999999\n").unwrap();
        let done = format!("exhibit: done 0 12 {}\n", "ab".repeat(32));
        std::fs::write(work.join("state.new"), done).unwrap();
        // What `kill -0` comes to when the collector's last act was just before it.
        let ends = "kill() { mv \"$folder/state.new\" \"$folder/state\"; return 1; }\n";
        let look = format!("{ends}{}", script.text("look"));
        assert!(matches!(run(&look, folder.path()), State::Done { bytes: 12, .. }));
        // One that was truly ended left no state.
        std::fs::remove_file(work.join("state")).unwrap();
        assert!(matches!(run(&script.text("look"), folder.path()), State::Failed(_)));
        // One whose number is not written yet runs.
        std::fs::remove_file(work.join("pid")).unwrap();
        assert_eq!(run(&script.text("look"), folder.path()), State::Running);
    }

    #[test]
    fn what_is_at_work_is_ended_before_its_folder_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        // It writes on and on in the folder that is to go.
        let busy = "#!/bin/sh\ni=0; while [ $i -lt 3000000 ]; do i=$((i + 1)); : > \"f$((i % 50))\"; done 2> /dev/null\n";
        std::fs::write(folder.path().join("exhibit-x"), busy).unwrap();
        let script = HostScript {
            sha256: custody::sha256(busy.as_bytes()).to_string(),
            ..script(folder.path(), folder.path())
        };
        assert_eq!(run(&script.text("start"), folder.path()), State::Started);
        let work = folder.path().join("work");
        let begun = std::time::Instant::now();
        while !(work.join("pid").is_file() && work.join("f1").is_file()) {
            assert!(begun.elapsed() < std::time::Duration::from_secs(180), "it did not begin");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let pid = std::fs::read_to_string(work.join("pid")).unwrap();
        assert_eq!(run(&script.text("clean"), folder.path()), State::Clean);
        assert!(!work.exists());
        // Nobody stands there any more: not the shell around the collector, nor what it began.
        let stands = |process: std::io::Result<std::fs::DirEntry>| {
            let cwd = std::fs::read_link(process.unwrap().path().join("cwd")).unwrap_or_default();
            // With ` (deleted)` after it, since the folder is gone.
            cwd.to_string_lossy().starts_with(work.to_str().unwrap())
        };
        let begun = std::time::Instant::now();
        while std::fs::read_dir("/proc").unwrap().any(stands) {
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{pid} still runs");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    #[test]
    fn a_process_that_only_has_the_number_of_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        std::fs::create_dir(&work).unwrap();
        let mut other = Command::new("sleep").arg("600").current_dir("/").spawn().unwrap();
        std::fs::write(work.join("pid"), other.id().to_string()).unwrap();
        let cleaned = run(&script(folder.path(), folder.path()).text("clean"), folder.path());
        let runs = other.try_wait().unwrap().is_none();
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!((cleaned, runs), (State::Clean, true));
    }

    #[test]
    fn another_collector_is_not_run() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("exhibit-x"), format!("{COLLECTOR}# changed")).unwrap();
        let script = script(folder.path(), folder.path());
        let State::Failed(why) = run(&script.text("start"), folder.path()) else { panic!("it ran") };
        assert!(why.contains("nowhere on the host, or is another"), "{why}");
    }

    #[test]
    fn what_a_host_says_is_read_strictly() {
        let hash = "ab".repeat(32);
        let done = state_of(&format!("noise\nexhibit: done 0 12 {hash}\n")).unwrap();
        assert_eq!(done, State::Done { issues: false, bytes: 12, sha256: hash.clone() });
        for said in [
            "",
            "done",
            "exhibit: done 0 12 zz",
            "exhibit: done 7 12",
            &format!("exhibit: done 0 -1 {hash}"),
            "exhibit: x",
        ] {
            assert!(state_of(said).is_err(), "{said}");
        }
        assert_eq!(
            state_of("exhibit: failed a\u{1b}[2Jb").unwrap(),
            State::Failed("a\u{fffd}[2Jb".to_owned())
        );
    }
}
