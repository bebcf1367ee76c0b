//! What the tests of captures elsewhere share: a case, settings, and a step that is run in them by the real program.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use respond::alert::{Alert, AssetKind};
use respond::inventory::Asset;
use respond::settings::Settings;
use respond::steps::{Context, Failed, named};
use serde_json::{Map, Value, json};

/// The program beside these tests, which `cargo test --workspace` and `cargo build -p exhibit-cli` put there.
pub(crate) fn program() -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().and_then(Path::parent).unwrap().join("exhibit");
    let knows = Command::new(&program)
        .args(["commission", "--help", "--while-holding", "x"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if knows.is_ok_and(|status| status.success()) {
        return Some(program);
    }
    eprintln!(
        "skipped: there is no exhibit at {}, or an old one: cargo build -p exhibit-cli",
        program.display()
    );
    None
}

/// A place to run steps in.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) settings: Settings,
    pub(crate) program: PathBuf,
    intents: RefCell<Vec<Value>>,
    pub(crate) stop: AtomicBool,
}

impl Bench {
    /// With these targets.
    pub(crate) fn new(program: PathBuf, targets: impl FnOnce(&Path) -> Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("data/exhibit/keys/default.pem");
        let made = Command::new(&program)
            .args(["init", "case", "--name", "n", "--examiner", "Service"])
            .current_dir(folder.path())
            .env("XDG_DATA_HOME", folder.path().join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let settings = json!({
            "state": folder.path().join("state"), "cases": folder.path(), "examiner": "Service", "rules": "rules",
            "capture": {"key": key}, "targets": targets(folder.path()),
        });
        // As the service makes it before it begins a child.
        std::fs::create_dir(folder.path().join("state")).unwrap();
        std::fs::write(folder.path().join("state/children.lock"), "").unwrap();
        let settings = serde_json::from_value(settings).unwrap();
        Self { folder, settings, program, intents: RefCell::default(), stop: AtomicBool::new(false) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a step of the table on an asset.
    pub(crate) fn run(
        &self,
        word: &str,
        id: &str,
        asset: (AssetKind, &str, &str),
        parameters: Value,
    ) -> Result<Value, Failed> {
        self.with(id, asset, parameters, |context| named(word).unwrap().run(context))
    }

    pub(crate) fn with<T>(
        &self,
        id: &str,
        (kind, asset, target): (AssetKind, &str, &str),
        parameters: Value,
        act: impl FnOnce(&Context<'_>) -> T,
    ) -> T {
        let asset = Asset {
            kind,
            id: asset.to_owned(),
            aliases: Vec::new(),
            account: String::new(),
            region: String::new(),
            owner: String::new(),
            criticality: String::new(),
            group: String::new(),
            target: target.to_owned(),
            tags: BTreeMap::new(),
        };
        let parameters: Map<String, Value> = parameters.as_object().cloned().unwrap_or_default();
        let intents = self.intents.borrow().clone();
        let intend = |intent: &Value| {
            self.intents.borrow_mut().push(intent.clone());
            Ok(())
        };
        act(&Context {
            job: "J000017",
            id,
            lease: 0,
            parameters: &parameters,
            alert: &Alert::default(),
            asset: &asset,
            case: &self.path("case"),
            settings: &self.settings,
            program: &self.program,
            earlier: &BTreeMap::new(),
            intend: &intend,
            intents: &intents,
            stop: &self.stop,
        })
    }

    pub(crate) fn intents(&self) -> Vec<Value> {
        self.intents.borrow().clone()
    }

    /// The folders of the case's exhibits, by name.
    pub(crate) fn exhibits(&self) -> Vec<(String, PathBuf)> {
        let case = custody::Case::open(&self.path("case")).unwrap();
        let name = |folder: &Path| folder.file_name().unwrap().to_str().unwrap().to_owned();
        case.exhibits().unwrap().into_iter().map(|exhibit| (name(&exhibit.folder), exhibit.folder)).collect()
    }

    /// Files of a stream of an exhibit, with their content.
    pub(crate) fn files(&self, exhibit: &str, stream: &str) -> BTreeMap<String, Vec<u8>> {
        let (_, folder) = self.exhibits().into_iter().find(|(name, _)| name.starts_with(exhibit)).unwrap();
        let reader = custody::bundle::Bundle::open(&folder).unwrap().stream(stream).unwrap();
        let entries: Vec<_> = reader.catalog().unwrap().map(Result::unwrap).collect();
        let content = |offset: u64, size: u64| {
            let mut bytes = vec![0; usize::try_from(size).unwrap()];
            reader.read_exact_at(offset, &mut bytes).unwrap();
            bytes
        };
        entries.into_iter().map(|entry| (entry.path.clone(), content(entry.offset, entry.size))).collect()
    }

    /// The whole case verifies.
    pub(crate) fn assert_verifies(&self) {
        let verified =
            custody::verify::verify(&self.path("case"), &custody::verify::Options::default()).unwrap();
        assert_eq!(verified.fault_count, 0, "{:?}", verified.faults);
    }
}
