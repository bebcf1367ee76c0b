//! Evidence bytes as text that loses nothing.

/// UTF-8 text of `bytes`; each invalid byte becomes `\xNN`.
///
/// ```
/// assert_eq!(timeline::text::clean(b"caf\xc3\xa9 \xff"), "café \\xff");
/// ```
pub fn clean(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            push_escaped(&mut out, *byte);
        }
    }
    out
}

/// A name as it stands in a locator: bytes outside printable UTF-8 and `\`, `:`, `>` are `\xNN`, so that it
/// reverses to the bytes.
pub fn locator_name(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || matches!(c, '\\' | ':' | '>') {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    push_escaped(&mut out, byte);
                }
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            push_escaped(&mut out, *byte);
        }
    }
    out
}

/// The bytes behind a name of a locator.
pub fn locator_bytes(name: &str) -> Vec<u8> {
    unescaped(name.as_bytes(), b"\\x")
}

/// The bytes where `mark` and two hexadecimal digits stand for one.
pub fn unescaped(text: &[u8], mark: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        if let Some([high, low, after @ ..]) = rest.strip_prefix(mark)
            && let (Some(high), Some(low)) = ((*high as char).to_digit(16), (*low as char).to_digit(16))
        {
            out.push((high * 16 + low) as u8);
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

/// The text before the first NUL of a fixed field.
pub fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or(&[])
}

fn push_escaped(out: &mut String, byte: u8) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    out.push_str("\\x");
    for nibble in [byte >> 4, byte & 15] {
        out.push(HEX.get(usize::from(nibble)).copied().unwrap_or('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_locator_name_comes_back() {
        let all: Vec<u8> = (0..=255u8).collect();
        assert_eq!(locator_bytes(&locator_name(&all)), all);
        assert_eq!(locator_name("a:b>c\\ é\n".as_bytes()), "a\\x3ab\\x3ec\\x5c é\\x0a");
    }
}
