//! Text out of bytes: of a file, by its byte order mark, and of any, in base 64.

/// The text of `bytes`: UTF-8, or UTF-16 and UTF-32 where a byte order mark says so. The mark itself is no text.
/// UTF-8 stays in the memory where it is.
///
/// Errors: what the bytes are instead, and that they are not UTF-8, without a file name.
pub fn text(mut bytes: Vec<u8>) -> Result<String, String> {
    let broken = |name: &str| format!("the byte order mark says {name}, but the bytes are not {name}");
    let wide = |rest: &[u8], read: fn([u8; 4]) -> u32, name: &str| {
        let (quads, left) = rest.as_chunks::<4>();
        let text: Option<String> = quads.iter().map(|q| char::from_u32(read(*q))).collect();
        text.filter(|_| left.is_empty()).ok_or_else(|| broken(name))
    };
    let double = |rest: &[u8], read: fn([u8; 2]) -> u16, name: &str| {
        let (pairs, left) = rest.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|p| read(*p)).collect();
        String::from_utf16(&units).ok().filter(|_| left.is_empty()).ok_or_else(|| broken(name))
    };
    match bytes.as_slice() {
        [0xff, 0xfe, 0, 0, rest @ ..] => wide(rest, u32::from_le_bytes, "UTF-32"),
        [0, 0, 0xfe, 0xff, rest @ ..] => wide(rest, u32::from_be_bytes, "UTF-32"),
        [0xff, 0xfe, rest @ ..] => double(rest, u16::from_le_bytes, "UTF-16"),
        [0xfe, 0xff, rest @ ..] => double(rest, u16::from_be_bytes, "UTF-16"),
        [0xef, 0xbb, 0xbf, ..] => {
            bytes.drain(..3);
            utf8(bytes)
        }
        _ => utf8(bytes),
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|e| {
        let (at, bytes) = (e.utf8_error().valid_up_to(), e.as_bytes());
        let start = &bytes[..bytes.len().min(4096)];
        let zeros = start.iter().filter(|b| **b == 0).count();
        let like = match () {
            () if zeros * 4 > start.len() => "it looks like UTF-16 without a byte order mark",
            () if zeros > 0 => "it looks like no text at all",
            () => "it may be Latin-1 or Windows-1252",
        };
        format!("not UTF-8 text (byte 0x{:02x} at {at}); {like}", bytes[at])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_say_how_a_text_is_read() {
        let words = "Zwölf 漢字 👧\r\n";
        let sixteen =
            |f: fn(u16) -> [u8; 2], mark: [u8; 2]| [mark.to_vec(), words.encode_utf16().flat_map(f).collect()].concat();
        let wide: Vec<u8> = words.chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
        for bytes in [
            words.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", words.as_bytes()].concat(),
            sixteen(u16::to_le_bytes, [0xff, 0xfe]),
            sixteen(u16::to_be_bytes, [0xfe, 0xff]),
            [b"\xff\xfe\0\0".to_vec(), wide].concat(),
        ] {
            assert_eq!(text(bytes).unwrap(), words);
        }
        assert!(text(b"\xff\xfea".to_vec()).unwrap_err().contains("UTF-16"));
        assert!(text("Zw\u{f6}lf".chars().map(|c| c as u8).collect()).unwrap_err().contains("Latin-1"));
        let bare: Vec<u8> = words.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(text(bare).unwrap_err().contains("UTF-16 without"));
        assert_eq!(text(Vec::new()).unwrap(), "");
    }
}
