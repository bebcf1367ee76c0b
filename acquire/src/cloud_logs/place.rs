//! Which bucket, and below which prefix; and under which path an object stands in the tar.

/// A prefix of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with; may be empty.
    pub prefix: String,
}

impl Place {
    /// Reads `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("s3://").ok_or("write it like s3://BUCKET/PREFIX")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if !(3..=255).contains(&bucket.len()) || !bucket.bytes().all(is_name) {
            return Err(format!("{bucket:?} is no name of a bucket"));
        }
        if prefix.len() > 1024 {
            return Err("a prefix has 1,024 bytes at most".to_owned());
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// The absolute path of an object in the tar: bucket, then the key.
///
/// What could lead a program astray is written as `%XX`: control characters, `.` and `..` as whole parts, a part that is
/// empty, and `%` itself. So no two keys have one path, and no path leads out of its folder.
pub(super) fn path_of(bucket: &str, key: &str) -> Vec<u8> {
    let mut path = format!("/{bucket}").into_bytes();
    for part in key.split('/') {
        path.push(b'/');
        match part {
            "" => path.extend_from_slice(b"%2F"),
            "." => path.extend_from_slice(b"%2E"),
            ".." => path.extend_from_slice(b"%2E%2E"),
            part => {
                for byte in part.bytes() {
                    if byte == b'%' || byte.is_ascii_control() {
                        path.extend_from_slice(format!("%{byte:02X}").as_bytes());
                    } else {
                        path.push(byte);
                    }
                }
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn places_are_a_bucket_and_a_prefix() {
        let place = Place::parse("s3://logs.example/AWSLogs/../x y").unwrap();
        assert_eq!((place.bucket.as_str(), place.prefix.as_str()), ("logs.example", "AWSLogs/../x y"));
        assert_eq!(Place::parse("s3://abc").unwrap().prefix, "");
        for bad in [
            "abc",
            "s3://",
            "s3:///x",
            "s3://a b/x",
            "http://abc/x",
            "s3://ü--/x",
            &format!("s3://abc/{}", "x".repeat(1025)),
        ] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_key_leads_out_of_its_bucket_and_no_two_keys_have_one_path() {
        let keys = [
            "a/b", "a//b", "a///b", "/a/b", "a/b/", "../x", "./x", "a/../b", "..", ".", "%2E%2E/x", "%2F",
            "a%2Fb", "a\nb", "a\u{1}b", "a\\b", "ü", "", "/", "//", "...", "a/.../b", "%",
        ];
        let paths: HashSet<_> = keys.iter().map(|key| path_of("b", key)).collect();
        assert_eq!(paths.len(), keys.len());
        for path in &paths {
            let text = std::str::from_utf8(path).unwrap();
            assert!(text.starts_with("/b/"), "{text}");
            assert!(text.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")), "{text}");
            assert!(!text.contains(char::is_control), "{text}");
        }
        assert_eq!(path_of("b", "a/b c"), b"/b/a/b c");
    }
}
