//! Fields of a protobuf message, one after the other. Reference: Protocol Buffers, "Encoding".

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// An integer, a boolean, an enum.
    Number(u64),
    /// A text, bytes, a message.
    Bytes(&'a [u8]),
}

/// The fields of a message in their order; what is damaged ends them.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let tag = self.varint()?;
            let value = match tag & 7 {
                0 => Value::Number(self.varint()?),
                1 => Value::Bytes(self.take(8)?),
                2 => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    Value::Bytes(self.take(length)?)
                }
                5 => Value::Bytes(self.take(4)?),
                _ => return None,
            };
            if tag >> 3 != 0 {
                return Some((tag >> 3, value));
            }
        }
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take(1)? else { return None };
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

/// All messages of a repeated field.
pub(crate) fn messages(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter_map(move |(field, value)| match value {
        Value::Bytes(bytes) if field == number => Some(bytes),
        _ => None,
    })
}

/// A text or message: of several the last, as the format has it.
pub(crate) fn bytes(message: &[u8], number: u64) -> Option<&[u8]> {
    messages(message, number).last()
}

/// A number.
pub(crate) fn number(message: &[u8], number: u64) -> Option<u64> {
    let found = Fields(message).filter_map(|(field, value)| match value {
        Value::Number(value) if field == number => Some(value),
        _ => None,
    });
    found.last()
}

/// A field of bytes as it is sent; for numbers below 16 and up to 127 bytes, which is all that is ever asked.
pub(crate) fn text_field(number: u8, text: &str) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, u8::try_from(text.len()).unwrap_or(127).min(127)];
    field.extend(text.bytes().take(127));
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_damage_ends_them() {
        let message = [0x0a, 3, b'a', b'b', b'c', 0x10, 0xac, 0x02, 0x0a, 1, b'z', 0x1d, 1, 2, 3, 4];
        assert_eq!(bytes(&message, 1), Some(&b"z"[..]));
        assert_eq!(messages(&message, 1).count(), 2);
        assert_eq!(number(&message, 2), Some(300));
        for end in 0..message.len() {
            let _ = Fields(&message[..end]).count();
        }
        assert_eq!(Fields(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).count(), 0);
        assert_eq!(Fields(&[0xff; 40]).count(), 0);
        assert_eq!(Fields(&[0x0b, 0x0c]).count(), 0);
        assert_eq!(text_field(1, "id"), [0x0a, 2, b'i', b'd']);
    }
}
