//! The few files that say whose evidence this is: host name, time zone, system, users.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Below a root, in this order.
const FILES: [&str; 7] = [
    "etc/hostname",
    "etc/timezone",
    "etc/localtime",
    "etc/os-release",
    "etc/machine-id",
    "etc/passwd",
    "etc/group",
];

/// Links from one of them to its content, at most.
const MOST_HOPS: usize = 8;

/// The context files for the given paths: of each root that has both `etc/` and `var/` and holds one of the paths.
///
/// Where one is a link, the file that it leads to inside that root follows it: `/etc/localtime` alone says little.
pub(crate) fn context_files(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for root in paths.iter().filter_map(|path| root_of(path)) {
        if !seen.insert(root.clone()) {
            continue;
        }
        for file in FILES {
            let mut next = Some(PathBuf::from(file));
            for _ in 0..MOST_HOPS {
                let Some(relative) = next.take() else { break };
                if !has_plain_folders(&root, &relative) {
                    break;
                }
                let path = root.join(&relative);
                let Ok(kind) = fs::symlink_metadata(&path).map(|metadata| metadata.file_type()) else {
                    break;
                };
                if !kind.is_file() && !kind.is_symlink() {
                    break;
                }
                if kind.is_symlink() {
                    next = fs::read_link(&path).ok().and_then(|target| follow(&relative, &target));
                }
                if !found.contains(&path) {
                    found.push(path);
                }
            }
        }
    }
    found
}

/// Where a running system keeps its own logs and settings. What lies elsewhere on this machine may be a copy of
/// another machine's.
const OWN: [&str; 3] = ["/etc", "/run", "/var"];

/// The nearest folder at or above a path that looks like the root of a system; `/` only for what is surely its own.
fn root_of(path: &Path) -> Option<PathBuf> {
    let is_folder = |path: PathBuf| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    path.ancestors()
        .find(|root| is_folder(root.join("etc")) && is_folder(root.join("var")))
        .filter(|root| {
            *root != Path::new("/") || path == *root || OWN.iter().any(|own| path.starts_with(own))
        })
        .map(Path::to_owned)
}

/// Whether all folders on the way are folders, not links, which could lead out of the evidence into this machine.
fn has_plain_folders(root: &Path, relative: &Path) -> bool {
    let mut place = root.to_owned();
    let Some(parent) = relative.parent() else { return false };
    parent.components().all(|part| {
        place.push(part);
        fs::symlink_metadata(&place).is_ok_and(|metadata| metadata.is_dir())
    })
}

/// Where a link leads, as a path below the root: `/` is the root itself, and `..` never leaves it.
fn follow(link: &Path, target: &Path) -> Option<PathBuf> {
    let mut place = if target.is_absolute() { PathBuf::new() } else { link.parent()?.to_owned() };
    for part in target.components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::ParentDir => drop(place.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    (!place.as_os_str().is_empty()).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(root: &Path, paths: &[&str]) -> Vec<String> {
        let paths: Vec<_> = paths.iter().map(|path| root.join(path)).collect();
        context_files(&paths)
            .iter()
            .map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn the_nearest_root_above_a_path_gives_its_context_and_what_its_links_lead_to() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for folder in ["etc", "var/log", "usr/lib", "usr/share/zoneinfo/Europe"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("etc/hostname"), "web01\n").unwrap();
        fs::write(root.join("usr/lib/os-release"), "ID=debian\n").unwrap();
        fs::write(root.join("usr/share/zoneinfo/Europe/Berlin"), "TZif").unwrap();
        symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
        symlink("/usr/share/zoneinfo/Europe/Berlin", root.join("etc/localtime")).unwrap();
        let expected = [
            "etc/hostname",
            "etc/localtime",
            "usr/share/zoneinfo/Europe/Berlin",
            "etc/os-release",
            "usr/lib/os-release",
        ];
        assert_eq!(names(root, &["var/log"]), expected);
        assert_eq!(names(root, &["", "var/log", "etc"]), expected);
    }

    #[test]
    fn links_never_lead_out_of_the_root() {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("secret")).unwrap();
        fs::write(outer.path().join("secret/passwd"), "x").unwrap();
        let root = outer.path().join("root");
        for folder in ["etc", "var"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        symlink("../../../../secret/passwd", root.join("etc/passwd")).unwrap();
        symlink("../../secret", root.join("out")).unwrap();
        symlink("../out/passwd", root.join("etc/group")).unwrap();
        symlink("hostname", root.join("etc/hostname")).unwrap();
        assert_eq!(names(&root, &["var"]), ["etc/hostname", "etc/passwd", "etc/group"]);
    }
}
