//! Whose home folder a path lies in.

use crate::text::{clean, locator_bytes};

/// The name of the folder's owner: `alice` of `/home/alice/.bash_history`, `root` of `/root/…`.
pub(super) fn owner(path: &str) -> Option<String> {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        match part {
            "root" if parts.peek().is_some() => return Some("root".into()),
            "home" | "Users" => {
                let name = parts.next().filter(|_| parts.peek().is_some())?;
                return Some(clean(&locator_bytes(name)));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn a_path_tells_whose_home_it_is_in() {
        let of = |path| owner(path).unwrap_or_default();
        assert_eq!(of("/home/alice/.bash_history"), "alice");
        assert_eq!(of("/root/.bash_history"), "root");
        assert_eq!(of("/home/j\\xc3\\xb8rn/.local/share/fish/fish_history"), "jørn");
        assert_eq!(of("/export/home/bob/.sh_history"), "bob");
        for path in ["/home/fish_history", "/srv/x", "/root", "", "/home"] {
            assert_eq!(of(path), "", "{path}");
        }
    }
}
