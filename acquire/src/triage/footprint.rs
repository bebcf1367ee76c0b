//! The receipt that closes a run: what we read, ran, wrote and may have touched on the host.

use std::path::Path;

use custody::Identity;
use custody::clock::Clock;
use custody::strict_json::{escape_text, to_line};
use serde_json::{Map, Value};

use super::command_artefact::CommandRunner;
use super::host_files::HostFiles;
use super::live_table::Row;
use super::run::ArtefactResult;
use crate::error::Result;
use crate::tar_packer::TarPacker;

const FORMAT: &str = "exhibit-footprint/1";

/// What the kernel counts of this process, from `/proc/self/io`.
const COUNTED: [&str; 6] = ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes"];

/// What this process had done at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moment {
    time: String,
    io: Vec<(&'static str, u64)>,
}

impl Moment {
    /// Looks at our own process.
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let value = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
        };
        let io = COUNTED.into_iter().filter_map(|key| Some((key, value(key)?))).collect();
        Self { time: clock.now().rfc3339(), io }
    }
}

/// What the receipt is made from.
pub(crate) struct Footprint<'a> {
    pub(crate) start: &'a Moment,
    pub(crate) identity: &'a Identity,
    pub(crate) bundle: &'a Path,
    pub(crate) host: &'a HostFiles,
    pub(crate) results: &'a [ArtefactResult],
    pub(crate) sockets: &'a [&'static str],
}

impl Footprint<'_> {
    /// Stores `/footprint.json`.
    pub(crate) fn store(
        &self,
        commands: &CommandRunner<'_>,
        clock: &dyn Clock,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        let end = Moment::now(clock);
        let mut row = Row::default();
        row.put("format", FORMAT);
        row.put("start", self.start.time.clone());
        row.put("end", end.time.clone());
        row.put("pid", std::process::id());
        row.put("tool", format!("{} {}", self.identity.tool.name, self.identity.tool.version));
        if let Some(sha256) = self.identity.tool.build_sha256 {
            row.put("tool_sha256", sha256.to_string());
        }
        row.put("wrote", vec![Value::from(escape_text(self.bundle.as_os_str().as_encoded_bytes()))]);
        row.put(
            "wrote_elsewhere",
            "nothing; output that memory did not hold lay in the bundle's folder without a name",
        );
        let mut read = Map::new();
        let mut by_artefact = Map::new();
        let (mut files, mut bytes) = (0u64, 0u64);
        for result in self.results.iter().filter(|result| result.files > 0) {
            let mut of = Row::default();
            of.number("files", Some(result.files));
            of.number("bytes", Some(result.bytes));
            by_artefact.insert(result.name.clone(), Value::Object(of.into_map()));
            files = files.saturating_add(result.files);
            bytes = bytes.saturating_add(result.bytes);
        }
        let touched = &self.host.touched;
        read.insert("files_taken".to_owned(), files.into());
        read.insert("bytes_taken".to_owned(), bytes.into());
        read.insert("files_opened".to_owned(), touched.files_opened.into());
        read.insert("folders_listed".to_owned(), touched.folders_listed.into());
        read.insert("by_artefact".to_owned(), Value::Object(by_artefact));
        row.put("read", Value::Object(read));
        let texts = |texts: &[String]| -> Vec<Value> {
            texts.iter().map(|text| Value::from(escape_text(text.as_bytes()))).collect()
        };
        let mut atimes = Map::new();
        atimes.insert("could_have_changed".to_owned(), touched.atimes.into());
        atimes.insert("first_paths".to_owned(), Value::Array(texts(&touched.atime_paths)));
        atimes.insert(
            "also".to_owned(),
            "of the programs that were run, of their libraries, and of what they read themselves".into(),
        );
        row.put("access_times", Value::Object(atimes));
        row.put("commands_run", commands.started);
        row.put("commands_left_behind", texts(&commands.left_behind));
        row.put("sockets_opened", self.sockets.iter().map(|what| Value::from(*what)).collect::<Vec<_>>());
        row.put("file_systems_that_did_not_answer", texts(&touched.silent));
        let mut not_entered: Vec<Value> = Vec::new();
        let mut mounts: Vec<_> = touched.not_entered.iter().collect();
        mounts.sort();
        for (path, why) in mounts.into_iter().take(1000) {
            let mut mount = Row::default();
            mount.text("path", path.as_os_str().as_encoded_bytes());
            mount.text("why", why.as_bytes());
            not_entered.push(Value::Object(mount.into_map()));
        }
        row.put("file_systems_not_entered", not_entered);
        let mut io = Row::default();
        for (key, after) in &end.io {
            let before =
                self.start.io.iter().find(|(known, _)| known == key).map_or(0, |(_, before)| *before);
            io.number(key, Some(after.saturating_sub(before)));
        }
        row.put("process_io", Value::Object(io.into_map()));
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        row.number("peak_memory_kib", peak);
        match to_line(&Value::Object(row.into_map())) {
            Ok(line) => out.made("/footprint.json", format!("{line}\n").as_bytes()),
            Err(error) => {
                out.note(Path::new("/footprint.json"), &error.to_string());
                Ok(())
            }
        }
    }
}
