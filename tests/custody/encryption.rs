//! Bundles that are encrypted to age recipients: written, read at any offset, verified with and without a key, and
//! opened with Debian's `age`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use custody::bundle::{
    Bundle, BundleStore, DecryptedStore, Error, HashedFile, Identities, LocalFolder, Recipients,
};
use custody::sha256;
use custody::verify::{FaultKind, Level, Options, Verification, verify};

use crate::support::{CHUNK, Recipe, check, faults, files_below, member, sample_bytes};

// Made for these tests by age-keygen; they protect nothing else.
const RECIPIENT: &str = "age1gswtxkfydtumud7valr4gxthjm97gy0gnzl9894nhrn72dpwccasl55mga";
const SECRET: &str = "AGE-SECRET-KEY-1722WCU93NXC5V3URAX9Z0WA8ME7CMZSCRFC7RY42K7DPL3PR9E2SPEGE9E";
/// What no message may repeat.
const SECRET_PART: &str = "1722WCU93NXC5V";
const SECOND: &str = "age1m8qy93mzgz934h49772mjkgmudyny4p8ek2284kt8kncsk7x5ceqckkfey";
const SECOND_SECRET: &str = "AGE-SECRET-KEY-1WYWHP4LUAMUPNA2T3HKAMLWVY2972Y4N9892CQEREJXQXJ2QH5GQM302VQ";
const MARKER: &[u8] = b"a-marker-that-only-the-evidence-holds";

fn recipients(names: &[&str]) -> Arc<Recipients> {
    let mut recipients = Recipients::default();
    for name in names {
        recipients.add(name).unwrap();
    }
    Arc::new(recipients)
}

fn key(secret: &str) -> Identities {
    Identities::one(secret).unwrap()
}

/// Five chunks in three segments, with text that must not show.
fn recipe(names: &[&str]) -> Recipe {
    let mut data = sample_bytes(4 * CHUNK as usize + 777);
    data[100_000..100_000 + MARKER.len()].copy_from_slice(MARKER);
    let catalog = vec![member(&format!("/{}", String::from_utf8_lossy(MARKER)))];
    Recipe { data, catalog, recipients: Some(recipients(names)), ..Recipe::default() }
}

fn verified(folder: &Path, identities: Identities) -> Verification {
    verify(folder, &Options { identities, ..Options::default() }).unwrap()
}

fn cause(error: &Error) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

#[test]
fn an_encrypted_bundle_comes_back_whole_with_the_key_of_any_recipient() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&[RECIPIENT, SECOND]);
    recipe.make(folder.path());
    for secret in [SECRET, SECOND_SECRET] {
        let bundle = Bundle::open_with_identities(folder.path(), &key(secret)).unwrap();
        let reader = bundle.stream("disk").unwrap();
        let mut back = vec![0; recipe.data.len() + 10];
        assert_eq!(reader.read_at(0, &mut back).unwrap(), recipe.data.len());
        assert_eq!(back[..recipe.data.len()], recipe.data);
        let entries: Vec<_> = reader.catalog().unwrap().map(Result::unwrap).collect();
        assert_eq!(entries, recipe.catalog);
    }
}

#[test]
fn nothing_of_the_evidence_lies_in_the_folder_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    recipe(&[RECIPIENT]).make(folder.path());
    let files = files_below(folder.path());
    for file in &files {
        let bytes = fs::read(folder.path().join(file)).unwrap();
        assert!(!bytes.windows(MARKER.len()).any(|window| window == MARKER), "{file:?}");
        let in_data = file.to_string_lossy().starts_with("data/");
        assert_eq!(in_data, bytes.starts_with(b"age-encryption.org/v1\n"), "{file:?}");
    }
    // The marker does show where nothing is encrypted, so the search above can find it.
    let plain = tempfile::tempdir().unwrap();
    Recipe { recipients: None, ..recipe(&[]) }.make(plain.path());
    let catalog = fs::read(plain.path().join("data/disk.catalog.jsonl")).unwrap();
    assert!(catalog.windows(MARKER.len()).any(|window| window == MARKER));
}

#[test]
fn an_acquisition_that_stops_leaves_no_plain_text_either() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder.path()));
    let cut = custody::bundle::Cut { chunk_size: CHUNK, segment_size: u64::from(CHUNK) * 2 };
    let protection = Some(recipients(&[RECIPIENT]));
    let mut stream =
        custody::bundle::StreamWriter::begin_with(Arc::clone(&store), "disk", "disk", cut, protection)
            .unwrap();
    let mut encoder = custody::bundle::Encoder::new(1).unwrap();
    let data = recipe(&[]).data;
    for chunk in data.chunks(CHUNK as usize).take(3) {
        stream.push(&encoder.encode(chunk).unwrap(), &[]).unwrap();
    }
    stream.abandon();
    let files = files_below(folder.path());
    assert_eq!(files.len(), 4, "{files:?}");
    let hash = sha256(&data[..CHUNK as usize]).to_string();
    for file in files {
        let bytes = fs::read(folder.path().join(&file)).unwrap();
        assert!(bytes.starts_with(b"age-encryption.org/v1\n"), "{file:?}");
        assert!(!bytes.windows(hash.len()).any(|window| window == hash.as_bytes()), "{file:?}");
    }
    // What was gathered is whole: the table that was cut short can be decrypted to its last row.
    fs::rename(folder.path().join("data/disk.chunks.tsv.age.part"), folder.path().join("data/t.age"))
        .unwrap();
    let decrypted = DecryptedStore::new(store, key(SECRET));
    let mut table = vec![0; decrypted.size_of("data/t.age").unwrap() as usize];
    decrypted.read_at("data/t.age", 0, &mut table).unwrap();
    assert_eq!(table.iter().filter(|&&byte| byte == b'\n').count(), 4);
}

#[test]
fn without_a_key_the_manifest_is_read_and_the_streams_say_what_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    recipe(&[RECIPIENT]).make(folder.path());
    let bundle = Bundle::open(folder.path()).unwrap();
    assert!(bundle.manifest().streams[0].is_encrypted());
    let refused = bundle.stream("disk").unwrap_err();
    assert!(matches!(&refused, Error::Encrypted { path } if path == "data/disk.chunks.tsv.age"), "{refused}");
    assert!(refused.to_string().contains("identity"), "{refused}");
    let bundle = Bundle::open_with_identities(folder.path(), &key(SECOND_SECRET)).unwrap();
    let refused = bundle.stream("disk").unwrap_err();
    assert!(refused.to_string().contains("data/disk.chunks.tsv.age"), "{refused}");
    assert!(cause(&refused).contains("none of the given identities opens it"), "{refused:?}");
}

#[test]
fn without_a_key_that_fits_verify_says_ciphertext_only_and_with_one_it_checks_everything() {
    let folder = tempfile::tempdir().unwrap();
    recipe(&[RECIPIENT]).make(folder.path());
    for identities in [Identities::default(), key(SECOND_SECRET)] {
        let found = verified(folder.path(), identities);
        assert_eq!(found.verdict.level, Level::Consistent, "{}", faults(&found));
        assert!(found.ciphertext_only && found.sentence.contains("CIPHERTEXT ONLY"), "{}", found.sentence);
        assert!(
            found.notes.iter().any(|note| note.contains("CIPHERTEXT ONLY: stream disk")),
            "{:?}",
            found.notes
        );
        assert_eq!((found.counts.chunks, found.exit_code(None)), (0, 0));
    }
    let found = verified(folder.path(), key(SECRET));
    assert_eq!(found.verdict.level, Level::Consistent, "{}", faults(&found));
    assert!(!found.ciphertext_only && !found.sentence.contains("CIPHERTEXT"), "{}", found.sentence);
    assert_eq!((found.counts.chunks, found.notes.len()), (5, 0));
}

#[test]
fn without_a_key_a_flipped_byte_in_any_stored_file_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    recipe(&[RECIPIENT]).make(folder.path());
    let files: Vec<_> = files_below(folder.path())
        .into_iter()
        .filter(|file| file.to_string_lossy().ends_with(".age"))
        .collect();
    assert_eq!(files.len(), 6);
    for file in files {
        let path = folder.path().join(&file);
        let good = fs::read(&path).unwrap();
        for at in [0, 30, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            for identities in [Identities::default(), key(SECRET)] {
                let found = verified(folder.path(), identities);
                assert_eq!(found.verdict.level, Level::Broken, "{file:?} byte {at}");
                assert!(
                    found.faults.iter().all(|fault| Path::new(&fault.place.file) == file),
                    "{}",
                    faults(&found)
                );
            }
        }
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(faults(&check(folder.path())).contains(&*file.to_string_lossy()), "{file:?} cut");
        fs::remove_file(&path).unwrap();
        assert!(faults(&check(folder.path())).contains(&*file.to_string_lossy()), "{file:?} removed");
        fs::write(&path, good).unwrap();
    }
    assert!(check(folder.path()).is_intact());
}

#[test]
fn damage_in_a_block_of_ciphertext_names_its_chunk_and_leaves_the_others_readable() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe(&[RECIPIENT]);
    // Noise, so that frames are as long as chunks and lie in blocks of their own.
    let mut state = 7u64;
    for byte in &mut recipe.data {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    recipe.make(folder.path());
    let path = folder.path().join("data/disk/000000.zst.age");
    let mut bytes = fs::read(&path).unwrap();
    bytes[5000] ^= 4;
    fs::write(&path, bytes).unwrap();
    let reader = Bundle::open_with_identities(folder.path(), &key(SECRET)).unwrap().stream("disk").unwrap();
    let mut buf = vec![0; CHUNK as usize];
    match reader.read_at(0, &mut buf) {
        Err(Error::Chunk { index: 0, reason, .. }) => {
            assert!(
                reason.contains("data/disk/000000.zst.age") && reason.contains("bytes 0 to 65536"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    reader.read_exact_at(2 * u64::from(CHUNK), &mut buf).unwrap();
    assert_eq!(buf, recipe.data[2 * CHUNK as usize..3 * CHUNK as usize]);
    let found = verified(folder.path(), key(SECRET));
    let chunks: Vec<_> = found.faults.iter().filter(|fault| fault.kind == FaultKind::Chunk).collect();
    assert_eq!(chunks[0].place.chunk, Some(0), "{}", faults(&found));
    assert!(found.counts.chunks >= 3, "{}", faults(&found));
    assert!(
        !found.faults.iter().any(|fault| fault.place.file != "data/disk/000000.zst.age"),
        "{}",
        faults(&found)
    );
}

#[test]
fn any_range_of_an_encrypted_file_is_what_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder.path()));
    const BLOCK: usize = 64 << 10;
    let mut state = 99u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 77] {
        let data = sample_bytes(length);
        let mut file =
            HashedFile::begin_with(&*store, &format!("f{length}"), Some(&recipients(&[RECIPIENT]))).unwrap();
        file.append(&data).unwrap();
        let stored = file.finish().unwrap();
        assert_eq!(stored.path, format!("f{length}.age"));
        let plain = stored.plain.unwrap();
        assert_eq!((plain.size, plain.sha256), (length as u64, sha256(&data)));
        let on_disk = fs::read(folder.path().join(&stored.path)).unwrap();
        assert_eq!((stored.size, stored.sha256), (on_disk.len() as u64, sha256(&on_disk)));
        let decrypted = DecryptedStore::new(Arc::clone(&store), key(SECRET));
        assert_eq!(decrypted.size_of(&stored.path).unwrap(), length as u64);
        for round in 0..200 {
            // Block borders, the end and behind it come often.
            let near = BLOCK * random(7);
            let from = match round % 3 {
                0 => random(length + 10),
                1 => near.saturating_sub(random(3)),
                _ => length.saturating_sub(random(3)),
            };
            let mut buf = vec![0; random(2 * BLOCK) + 1];
            let read = decrypted.read_at(&stored.path, from as u64, &mut buf).unwrap();
            let expected = data.get(from..).unwrap_or_default();
            let expected = &expected[..expected.len().min(buf.len())];
            assert_eq!(buf[..read], *expected, "{length} bytes, {from} of them on");
        }
        assert_eq!(decrypted.read_at(&stored.path, u64::MAX, &mut [0; 4]).unwrap(), 0);
    }
}

#[test]
fn many_threads_read_many_encrypted_files_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder.path()));
    let data = sample_bytes(200_000);
    // More files than are kept open.
    for number in 0..40 {
        let mut file =
            HashedFile::begin_with(&*store, &format!("f{number}"), Some(&recipients(&[RECIPIENT]))).unwrap();
        file.append(&data[number..]).unwrap();
        file.finish().unwrap();
    }
    let decrypted = DecryptedStore::new(store, key(SECRET));
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (decrypted, data) = (&decrypted, &data);
            scope.spawn(move || {
                for round in 0..80usize {
                    let (number, at) = ((round * 7 + thread) % 40, round * 2000);
                    let mut buf = [0; 5000];
                    decrypted.read_at(&format!("f{number}.age"), at as u64, &mut buf).unwrap();
                    assert_eq!(buf, data[number + at..number + at + 5000]);
                }
            });
        }
    });
}

#[test]
fn a_file_that_is_no_age_file_or_has_an_endless_header_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let endless = [b"age-encryption.org/v1\n".to_vec(), b"-> X 1\n\n".repeat(40_000)].concat();
    let long =
        [b"age-encryption.org/v1\n".to_vec(), b"-> X 1\n\n".repeat(1800), b"--- x\n".to_vec()].concat();
    let cases: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("text", b"no age file at all, but long enough to be asked for its header".to_vec()),
        ("header", b"age-encryption.org/v1\n-> X25519 ".to_vec()),
        ("later", b"age-encryption.org/v9\n-> X25519 a\nb\n--- c\n".to_vec()),
        ("endless", endless),
        ("long", long),
    ];
    let decrypted = DecryptedStore::new(Arc::new(LocalFolder::new(folder.path())), key(SECRET));
    for (name, bytes) in cases {
        fs::write(folder.path().join(format!("{name}.age")), bytes).unwrap();
        let refused = decrypted.size_of(&format!("{name}.age")).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData, "{name}: {refused}");
    }
    let missing = decrypted.size_of("missing.age").unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn keys_that_are_not_supported_are_said_to_be_and_secrets_are_never_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let words = |text: &str| Recipients::default().add(text).unwrap_err().to_string();
    assert!(words("ssh-ed25519 AAAA").contains("SSH keys are not supported"));
    assert!(words(SECRET).contains("secret key") && !words(SECRET).contains(SECRET_PART));
    assert!(words("age1xyz").contains("age1xyz"));

    let mut both = Recipients::default();
    both.add_file(&write("r", &format!("# to whom\n\n{RECIPIENT}\n{SECOND}\n{RECIPIENT}\n"))).unwrap();
    assert_eq!(both.names(), [RECIPIENT, SECOND]);
    let refused = both.add_file(&write("r2", &format!("{RECIPIENT}\nbad\n"))).unwrap_err().to_string();
    assert!(refused.contains("line 2") && refused.contains("r2"), "{refused}");

    let good = write("k", &format!("# created: today\n# public key: {RECIPIENT}\n{SECRET}\n"));
    assert!(!Identities::read(&[&good]).unwrap().is_empty());
    for (name, text, says) in [
        ("locked", "age-encryption.org/v1\n-> scrypt x\n".to_owned(), "itself encrypted"),
        ("armoured", "-----BEGIN AGE ENCRYPTED FILE-----\n".to_owned(), "itself encrypted"),
        ("ssh", "-----BEGIN OPENSSH PRIVATE KEY-----\n".to_owned(), "another kind"),
        ("nothing", "# only words\n".to_owned(), "holds no age identity"),
        ("typo", SECRET.replace('9', "8"), "line 1"),
    ] {
        let refused = Identities::read(&[write(name, &text)]).unwrap_err().to_string();
        assert!(
            refused.contains(says) && refused.contains(name) && !refused.contains(SECRET_PART),
            "{refused}"
        );
    }
    assert!(matches!(Identities::read(&[folder.path().join("gone")]), Err(Error::KeyFile { .. })));
    assert!(!format!("{:?}", key(SECRET)).contains("SECRET"));
}

#[test]
fn debians_age_opens_what_we_encrypt_and_we_open_what_it_encrypts() {
    if Command::new("age").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no age here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle");
    fs::create_dir(&bundle).unwrap();
    let recipe = recipe(&[SECOND, RECIPIENT]);
    recipe.make(&bundle);
    let key_file = folder.path().join("key.txt");
    fs::write(&key_file, format!("{SECRET}\n")).unwrap();
    let manifest = Bundle::open(&bundle).unwrap().manifest().clone();
    for file in manifest.streams[0].files() {
        let output = Command::new("age")
            .arg("-d")
            .arg("-i")
            .arg(&key_file)
            .arg(bundle.join(&file.path))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let plain = file.plain.unwrap();
        assert_eq!(
            (output.stdout.len() as u64, sha256(&output.stdout)),
            (plain.size, plain.sha256),
            "{}",
            file.path
        );
    }
    let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside.age"));
    fs::write(&inside, &recipe.data).unwrap();
    let done = Command::new("age").args(["-r", RECIPIENT, "-o"]).arg(&outside).arg(&inside).status().unwrap();
    assert!(done.success());
    let decrypted = DecryptedStore::new(Arc::new(LocalFolder::new(folder.path())), key(SECRET));
    let mut back = vec![0; recipe.data.len()];
    assert_eq!(decrypted.read_at("outside.age", 0, &mut back).unwrap(), back.len());
    assert_eq!(back, recipe.data);
}
