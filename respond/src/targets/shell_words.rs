//! Words and folders as they may stand in a command that another shell reads.

/// A folder as it may stand in a command.
pub(crate) fn is_folder(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    path.starts_with('/')
        && path.len() > 1
        && path.len() <= 200
        && !path.ends_with('/')
        && path.bytes().all(plain)
        && !path.split('/').any(|part| part == ".." || part.starts_with('-'))
}

/// A word as any shell takes it: in single quotes. `None` for what cannot be so in all of them.
pub(crate) fn quoted(word: &str) -> Option<String> {
    if word.chars().any(|c| c.is_control()) {
        return None;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-=:,@+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return Some(word.to_owned());
    }
    Some(format!("'{}'", word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn words_reach_the_other_shell_as_they_are() {
        for word in ["plain", "two words", "a'b", "$(id)", "`id`", "; rm -rf /", "*", "!", "\\", "", "ü"] {
            let script = format!("printf %s {}", quoted(word).unwrap());
            // Once more, as it is quoted for the login shell and for /bin/sh there.
            let output = Command::new("/bin/sh")
                .args(["-c", &format!("/bin/sh -c {}", quoted(&script).unwrap())])
                .output();
            assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), word);
        }
        assert_eq!(quoted("a\nb"), None);
        assert_eq!(quoted("a\0b"), None);
    }
}
