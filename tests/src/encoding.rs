//! Hex and base64, as the fixtures hold binary frames.

/// Reads hexadecimal text.
///
/// # Panics
///
/// On an odd number of digits or anything that is not one.
///
/// ```
/// assert_eq!(realtime_tests::encoding::unhex("00fF"), [0x00, 0xFF]);
/// ```
#[must_use]
pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len() % 2 == 0, "{text:?} has an odd number of digits");
    let digit = |byte: u8| {
        char::from(byte).to_digit(16).unwrap_or_else(|| panic!("{text:?} is not hexadecimal"))
    };
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| (digit(pair[0]) * 16 + digit(pair[1])) as u8)
        .collect()
}

/// Writes lower-case hexadecimal text.
///
/// ```
/// assert_eq!(realtime_tests::encoding::hex(&[0x00, 0xFF]), "00ff");
/// ```
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads standard base64 with padding.
///
/// # Panics
///
/// On anything else.
///
/// ```
/// assert_eq!(realtime_tests::encoding::unbase64("AQL/"), [1, 2, 255]);
/// assert_eq!(realtime_tests::encoding::unbase64("aGk="), b"hi");
/// ```
#[must_use]
pub fn unbase64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert!(text.len() % 4 == 0, "base64 of {} characters", text.len());
    let digits = text.trim_end_matches('=');
    assert!(text.len() - digits.len() <= 2, "too much padding");
    let (mut bits, mut held) = (0_u32, 0);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for byte in digits.bytes() {
        let digit = ALPHABET.iter().position(|&letter| letter == byte);
        let digit = digit.unwrap_or_else(|| panic!("byte {byte} is not base64"));
        bits = bits << 6 | digit as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of RFC 4648, section 10.
    #[test]
    fn base64_reads_the_vectors_of_its_standard() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(unbase64(text), bytes.as_bytes());
        }
    }
}
